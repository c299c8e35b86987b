#include "ops/chunked_exchange.h"

#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

namespace switchyard {

/// Both directions of one exchange: forward goes one way, backward the other. `scatter` and
/// `arrive` are the way from one tensor to chunks, `depart` and `gather` that from chunks to one.
class ChunkedExchange {
 public:
  ChunkedExchange(const std::vector<ChunkBlocks>& chunks, Communicator& group, const char* purpose)
      : chunks_(chunks), group_(group), purpose_(purpose), scattered_(chunks.size()) {}

  /// Begins all; the tensors of chunks are full after their `arrive`.
  std::vector<at::Tensor> scatter(const at::Tensor& x_SD) {
    std::vector<at::Tensor> parts;
    for (size_t c = 0; c < chunks_.size(); ++c) {
      const auto& [whole, part] = chunks_[c];
      parts.push_back(at::empty({part.total(), x_SD.size(1)}, x_SD.options()));
      scattered_[c] = group_.start_all_to_all(x_SD, whole, parts[c], part, purpose_);
    }
    return parts;
  }

  void arrive(int64_t c) {
    scattered_[c]->wait();
    scattered_[c].reset();
  }

  void depart(int64_t c, const at::Tensor& part_RD) {
    if (!gathered_SD_.defined()) {
      int64_t S = 0;
      for (const ChunkBlocks& chunk : chunks_) S += chunk.whole.total();
      gathered_SD_ = at::empty({S, part_RD.size(1)}, part_RD.options());
    }
    const auto& [whole, part] = chunks_[c];
    departed_.push_back(group_.start_all_to_all(part_RD, part, gathered_SD_, whole, purpose_));
  }

  at::Tensor gather() {
    for (const auto& rows : departed_) rows->wait();
    departed_.clear();
    return std::exchange(gathered_SD_, at::Tensor());
  }

 private:
  const std::vector<ChunkBlocks> chunks_;
  Communicator& group_;
  const char* const purpose_;
  std::vector<std::unique_ptr<UnderWay>> scattered_, departed_;
  at::Tensor gathered_SD_;
};

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Exchange = std::shared_ptr<ChunkedExchange>;

/// An exchange as autograd keeps it.
struct Kept final : public torch::CustomClassHolder {
  explicit Kept(Exchange kept) : exchange(std::move(kept)) {}
  const Exchange exchange;
};

// Nodes of backward run latest made first, so that the order in which forward made them is that
// of the exchanges in backward, on every rank.

void keep(AutogradContext* ctx, const Exchange& exchange, int64_t c = 0) {
  ctx->saved_data["exchange"] = c10::IValue::make_capsule(c10::make_intrusive<Kept>(exchange));
  ctx->saved_data["chunk"] = c;
}

ChunkedExchange& exchange_of(AutogradContext* ctx) {
  return *static_cast<const Kept&>(*ctx->saved_data["exchange"].toCapsule()).exchange;
}

int64_t chunk_of(AutogradContext* ctx) { return ctx->saved_data["chunk"].toInt(); }

class Scatter : public torch::autograd::Function<Scatter> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& x_SD, const Exchange& exchange) {
    keep(ctx, exchange);
    return exchange->scatter(x_SD);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& /*grads*/) {
    return {exchange_of(ctx).gather(), Tensor()};
  }
};

class Arrive : public torch::autograd::Function<Arrive> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& part_RD, const Exchange& exchange,
                        int64_t c) {
    keep(ctx, exchange, c);
    exchange->arrive(c);
    return part_RD.detach();
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    exchange_of(ctx).depart(chunk_of(ctx), grads[0].contiguous());
    return {grads[0], Tensor(), Tensor()};
  }
};

class Depart : public torch::autograd::Function<Depart> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& part_RD, const Exchange& exchange,
                        int64_t c) {
    keep(ctx, exchange, c);
    exchange->depart(c, part_RD);
    return part_RD.detach();
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    exchange_of(ctx).arrive(chunk_of(ctx));
    return {grads[0], Tensor(), Tensor()};
  }
};

class Gather : public torch::autograd::Function<Gather> {
 public:
  static Tensor forward(AutogradContext* ctx, at::TensorList /*parts*/, const Exchange& exchange) {
    keep(ctx, exchange);
    return exchange->gather();
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    variable_list gradients = exchange_of(ctx).scatter(grads[0].contiguous());
    gradients.emplace_back();
    return gradients;
  }
};

}  // namespace

ScatteredRows::ScatteredRows(const Tensor& x_SD, const std::vector<ChunkBlocks>& chunks,
                             Communicator& group, const char* purpose)
    : exchange_(std::make_shared<ChunkedExchange>(chunks, group, purpose)),
      parts_(Scatter::apply(x_SD.contiguous(), exchange_)) {}

Tensor ScatteredRows::wait(int64_t c) { return Arrive::apply(parts_.at(c), exchange_, c); }

GatheredRows::GatheredRows(const std::vector<ChunkBlocks>& chunks, Communicator& group,
                           const char* purpose)
    : exchange_(std::make_shared<ChunkedExchange>(chunks, group, purpose)) {}

void GatheredRows::send(int64_t c, const Tensor& part_RD) {
  parts_.push_back(Depart::apply(part_RD.contiguous(), exchange_, c));
}

Tensor GatheredRows::wait() { return Gather::apply(at::TensorList(parts_), exchange_); }

}  // namespace switchyard
