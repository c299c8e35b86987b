#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <numeric>
#include <string>

#include "support/watched_communicator.h"

namespace switchyard {

/// Bytes that this rank sends, each once, by what they are for.
struct SentBytes {
  int64_t rows = 0, gradients = 0, weights = 0;
};

/// Another communicator, whose bytes are counted.
class CountingCommunicator final : public WatchedCommunicator {
 public:
  CountingCommunicator(std::unique_ptr<Communicator> inner, SentBytes& sent)
      : WatchedCommunicator(std::move(inner)), sent_(sent) {}

  void all_reduce(at::Tensor& x, ReduceOp op, const char* purpose) override {
    if (is(purpose, "gradients of")) sent_.gradients += 2 * others(x.nbytes()) / size();
    WatchedCommunicator::all_reduce(x, op, purpose);
  }
  void reduce_scatter(const at::Tensor& input, at::Tensor& output, const char* purpose) override {
    sent_.gradients += others(output.nbytes());
    WatchedCommunicator::reduce_scatter(input, output, purpose);
  }
  std::unique_ptr<UnderWay> start_reduce_scatter_uneven(const at::Tensor& input,
                                                        const std::vector<int64_t>& counts,
                                                        at::Tensor& output,
                                                        const char* purpose) override {
    sent_.gradients += static_cast<int64_t>(input.nbytes() - output.nbytes());
    return WatchedCommunicator::start_reduce_scatter_uneven(input, counts, output, purpose);
  }
  void all_gather(const at::Tensor& input, at::Tensor& output, const char* purpose) override {
    if (is(purpose, "weights after")) sent_.weights += others(input.nbytes());
    WatchedCommunicator::all_gather(input, output, purpose);
  }
  std::unique_ptr<UnderWay> start_all_to_all(const at::Tensor& input, const RowBlocks& send,
                                             at::Tensor& output, const RowBlocks& recv,
                                             const char* purpose) override {
    if (is(purpose, "dispatch of tokens") || is(purpose, "return of tokens")) {
      const auto per_rank = static_cast<int64_t>(send.rows.size()) / size();
      const auto own = send.rows.begin() + rank() * per_rank;
      const int64_t leaving = send.total() - std::accumulate(own, own + per_rank, int64_t{0});
      sent_.rows += leaving * input.size(1) * input.element_size();
    }
    return WatchedCommunicator::start_all_to_all(input, send, output, recv, purpose);
  }

 private:
  static bool is(const std::string& purpose, const char* start) {
    return purpose.starts_with(start);
  }
  int64_t others(size_t bytes) const { return (size() - 1) * static_cast<int64_t>(bytes); }

  SentBytes& sent_;
};

}  // namespace switchyard
