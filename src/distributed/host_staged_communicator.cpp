#include "distributed/host_staged_communicator.h"

#include <ATen/ATen.h>

#include <optional>

namespace switchyard {
namespace {

using at::Tensor;

/// Contiguous, from where a GPU copies without a detour.
Tensor host_tensor(c10::IntArrayRef sizes, const Tensor& like) {
  return at::empty(sizes, like.options().device(at::kCPU).pinned_memory(like.is_cuda()));
}

Tensor on_host(const Tensor& x) { return host_tensor(x.sizes(), x).copy_(x); }

/// Calls `run(first, rows)` for rows of `blocks` that follow one another, in the order of the
/// blocks.
template <class Run>
void for_each_run(const RowBlocks& blocks, const Run& run) {
  int64_t first = 0, rows = 0;
  for (size_t i = 0; i < blocks.rows.size(); ++i) {
    if (blocks.rows[i] == 0) continue;
    if (rows > 0 && blocks.begin[i] != first + rows) {
      run(first, rows);
      rows = 0;
    }
    if (rows == 0) first = blocks.begin[i];
    rows += blocks.rows[i];
  }
  if (rows > 0) run(first, rows);
}

Tensor host_rows(const RowBlocks& blocks, const Tensor& like) {
  std::vector<int64_t> sizes = like.sizes().vec();
  sizes[0] = blocks.total();
  return host_tensor(sizes, like);
}

/// The blocks one after another.
Tensor gathered(const Tensor& x, const RowBlocks& blocks) {
  Tensor packed = host_rows(blocks, x);
  int64_t done = 0;
  for_each_run(blocks, [&](int64_t first, int64_t rows) {
    packed.narrow(0, done, rows).copy_(x.narrow(0, first, rows));
    done += rows;
  });
  return packed;
}

void scatter(const Tensor& packed, const RowBlocks& blocks, const Tensor& x) {
  int64_t done = 0;
  for_each_run(blocks, [&](int64_t first, int64_t rows) {
    x.narrow(0, first, rows).copy_(packed.narrow(0, done, rows));
    done += rows;
  });
}

class HostStagedCommunicator final : public Communicator {
 public:
  explicit HostStagedCommunicator(std::unique_ptr<Communicator> host)
      : Communicator(host->rank(), host->size(), host->name()), host_(std::move(host)) {}

  void all_reduce(Tensor& x, ReduceOp op, const char* purpose) override {
    const Collective call(*this, "all-reduce", purpose, bytes_in(x));
    check_contract(x);
    if (x.is_cpu()) return host_->all_reduce(x, op, purpose);
    Tensor staged = on_host(x);
    host_->all_reduce(staged, op, purpose);
    x.copy_(staged);
  }

  void reduce_scatter(const Tensor& input, Tensor& output, const char* purpose) override {
    const Collective call(*this, "reduce-scatter", purpose, bytes_in(input));
    check_contract(input, output);
    if (input.is_cpu()) return host_->reduce_scatter(input, output, purpose);
    Tensor staged = host_tensor(output.sizes(), output);
    host_->reduce_scatter(on_host(input), staged, purpose);
    output.copy_(staged);
  }

  void reduce_scatter_uneven(const Tensor& input, const std::vector<int64_t>& counts,
                             Tensor& output, const char* purpose) override {
    const Collective call(*this, "reduce-scatter", purpose, bytes_in(input));
    check_contract(input, output);
    if (input.is_cpu()) return host_->reduce_scatter_uneven(input, counts, output, purpose);
    Tensor staged = host_tensor(output.sizes(), output);
    host_->reduce_scatter_uneven(on_host(input), counts, staged, purpose);
    output.copy_(staged);
  }

  void all_gather(const Tensor& input, Tensor& output, const char* purpose) override {
    const Collective call(*this, "all-gather", purpose, bytes_in(input));
    check_contract(input, output);
    if (input.is_cpu()) return host_->all_gather(input, output, purpose);
    Tensor staged = host_tensor(output.sizes(), output);
    host_->all_gather(on_host(input), staged, purpose);
    output.copy_(staged);
  }

  void broadcast(Tensor& x, int root, const char* purpose) override {
    const Collective call(*this, "broadcast", purpose, bytes_in(x));
    check_contract(x);
    if (x.is_cpu()) return host_->broadcast(x, root, purpose);
    Tensor staged = rank() == root ? on_host(x) : host_tensor(x.sizes(), x);
    host_->broadcast(staged, root, purpose);
    if (rank() != root) x.copy_(staged);
  }

  std::unique_ptr<UnderWay> start_all_to_all(const Tensor& input, const RowBlocks& send,
                                             Tensor& output, const RowBlocks& recv,
                                             const char* purpose) override;

  void barrier(const char* purpose) override {
    const Collective call(*this, "barrier", purpose, 0);
    host_->barrier(purpose);
  }

 private:
  class Exchange;

  static int64_t bytes_in(const Tensor& x) { return static_cast<int64_t>(x.nbytes()); }

  static void check_contract(const Tensor& x) {
    TORCH_CHECK(x.is_contiguous(), "staged communicator: needs a contiguous tensor");
  }

  static void check_contract(const Tensor& input, const Tensor& output) {
    check_contract(input);
    check_contract(output);
    TORCH_CHECK(input.device() == output.device() && input.dtype() == output.dtype(),
                "staged communicator: ", input.dtype(), " on ", input.device(), " into ",
                output.dtype(), " on ", output.device());
  }

  std::unique_ptr<Communicator> host_;
};

/// Rows of a device are packed on their way: only those that are sent cross to the host.
class HostStagedCommunicator::Exchange final : public UnderWay {
 public:
  Exchange(HostStagedCommunicator& communicator, const Tensor& input, const RowBlocks& send,
           Tensor& output, const RowBlocks& recv, const char* purpose)
      : output_(output), recv_(recv) {
    const int ranks = communicator.size();
    const std::vector<int64_t> to = send.by_rank(ranks), from = recv.by_rank(ranks);
    const FlightRecord::Rows rows{to, from};
    const int64_t row_bytes = input.element_size() * c10::multiply_integers(input.sizes().slice(1));
    call_.emplace(communicator, "all-to-all", purpose, send.total() * row_bytes, &rows);
    if (input.is_cpu()) {
      rows_ = communicator.host_->start_all_to_all(input, send, output, recv, purpose);
    } else {
      staged_ = host_rows(recv, output);
      rows_ = communicator.host_->start_all_to_all(gathered(input, send),
                                                   RowBlocks::in_order(send.rows), staged_,
                                                   RowBlocks::in_order(recv.rows), purpose);
    }
    call_->step_out();
  }

  void wait() override {
    call_->step_in();
    rows_->wait();
    if (staged_.defined()) scatter(staged_, recv_, output_);
    call_.reset();
  }

 private:
  const Tensor output_;
  const RowBlocks recv_;
  Tensor staged_;  // undefined: the rows go straight into `output_`
  std::unique_ptr<UnderWay> rows_;
  std::optional<Collective> call_;  // until the end of `wait`
};

std::unique_ptr<UnderWay> HostStagedCommunicator::start_all_to_all(const Tensor& input,
                                                                   const RowBlocks& send,
                                                                   Tensor& output,
                                                                   const RowBlocks& recv,
                                                                   const char* purpose) {
  check_contract(input, output);
  check_blocks(input, send, output, recv);
  return std::make_unique<Exchange>(*this, input, send, output, recv, purpose);
}

}  // namespace

std::unique_ptr<Communicator> make_host_staged_communicator(std::unique_ptr<Communicator> host) {
  return std::make_unique<HostStagedCommunicator>(std::move(host));
}

}  // namespace switchyard
