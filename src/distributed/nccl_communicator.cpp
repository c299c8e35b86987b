#include "distributed/nccl_communicator.h"

#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <optional>

#include "base/error.h"
#include "distributed/nccl_group.h"

namespace switchyard {
namespace {

using at::Tensor;
using at::cuda::CUDAEvent;
using c10::cuda::CUDAStream;

int64_t bytes_in(const Tensor& x) { return static_cast<int64_t>(x.nbytes()); }

char* bytes_of(const Tensor& x) { return static_cast<char*>(x.data_ptr()); }

ncclDataType_t type_of(const Tensor& x) {
  switch (x.scalar_type()) {
    case at::kFloat:
      return ncclFloat32;
    case at::kDouble:
      return ncclFloat64;
    case at::kBFloat16:
      return ncclBfloat16;
    case at::kInt:
      return ncclInt32;
    case at::kLong:
      return ncclInt64;
    case at::kByte:
      return ncclUint8;
    default:
      TORCH_CHECK(false, "NCCL communicator: no NCCL type for ", x.dtype());
  }
}

/// Does what `earlier` has to do so far before what `later` gets from now on.
void follow(const CUDAStream& later, const CUDAStream& earlier, CUDAEvent& event) {
  event.record(earlier);
  event.block(later);
}

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(std::unique_ptr<Communicator> host, c10::Device device)
      : Communicator(host->rank(), host->size(), host->name()),
        host_(std::move(host)),
        device_(device),
        stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device.index())) {
    const c10::cuda::CUDAGuard guard(device_);
    group_.emplace(name(), rank(), size(), shared_id());
    Tensor x = at::ones({1}, at::device(device_).dtype(at::kFloat));
    all_reduce(x, ReduceOp::kSum, "warm-up");
    wait_for_stream("warm-up");
    group_->start_to_watch();
  }

  void all_reduce(Tensor& x, ReduceOp op, const char* purpose) override {
    if (!x.is_cpu()) return start_all_reduce(x, op, purpose)->wait();
    const Collective collective(*this, "all-reduce", purpose, bytes_in(x));
    host_->all_reduce(x, op, purpose);
  }

  std::unique_ptr<UnderWay> start_all_reduce(Tensor& x, ReduceOp op, const char* purpose) override {
    check_contract(x);
    if (x.is_cpu()) return Communicator::start_all_reduce(x, op, purpose);
    return start("all-reduce", purpose, {x}, [&] {
      if (x.numel() == 0) return;
      group_->call("ncclAllReduce", purpose, [&] {
        return ncclAllReduce(bytes_of(x), bytes_of(x), x.numel(), type_of(x),
                             op == ReduceOp::kSum ? ncclSum : ncclMax, group_->get(), stream_);
      });
    });
  }

  void reduce_scatter(const Tensor& input, Tensor& output, const char* purpose) override {
    const Collective collective(*this, "reduce-scatter", purpose, bytes_in(input));
    check_contract(input, output);
    if (input.is_cpu()) return host_->reduce_scatter(input, output, purpose);
    const int64_t piece = output.numel();
    TORCH_CHECK(input.numel() == piece * size(), "reduce_scatter: input must hold ", size(),
                " pieces of ", piece, " elements");
    if (piece == 0) return;
    enqueue("ncclReduceScatter", purpose, [&] {
      return ncclReduceScatter(bytes_of(input), bytes_of(output), piece, type_of(input), ncclSum,
                               group_->get(), stream_);
    });
  }

  void reduce_scatter_uneven(const Tensor& input, const std::vector<int64_t>& counts,
                             Tensor& output, const char* purpose) override {
    if (!input.is_cpu()) return start_reduce_scatter_uneven(input, counts, output, purpose)->wait();
    const Collective collective(*this, "reduce-scatter", purpose, bytes_in(input));
    host_->reduce_scatter_uneven(input, counts, output, purpose);
  }

  std::unique_ptr<UnderWay> start_reduce_scatter_uneven(const Tensor& input,
                                                        const std::vector<int64_t>& counts,
                                                        Tensor& output,
                                                        const char* purpose) override {
    check_contract(input, output);
    if (input.is_cpu())
      return Communicator::start_reduce_scatter_uneven(input, counts, output, purpose);
    const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    TORCH_CHECK(static_cast<int>(counts.size()) == size() && total == input.numel() &&
                    counts[rank()] == output.numel(),
                "reduce_scatter: ", counts.size(), " pieces of ", total, " elements in all for ",
                input.numel(), " elements over ", size(), " ranks");
    return start("reduce-scatter", purpose, {input, output}, [&] {
      call_pieces("ncclReduce", input, counts, purpose, [&](void* piece, int64_t count, int owner) {
        return ncclReduce(piece, owner == rank() ? bytes_of(output) : nullptr, count,
                          type_of(input), ncclSum, owner, group_->get(), stream_);
      });
    });
  }

  void all_gather(const Tensor& input, Tensor& output, const char* purpose) override {
    const Collective collective(*this, "all-gather", purpose, bytes_in(input));
    check_contract(input, output);
    if (input.is_cpu()) return host_->all_gather(input, output, purpose);
    const int64_t piece = input.numel();
    TORCH_CHECK(output.numel() == piece * size(), "all_gather: output must hold ", size(),
                " pieces of ", piece, " elements");
    if (piece == 0) return;
    enqueue("ncclAllGather", purpose, [&] {
      return ncclAllGather(bytes_of(input), bytes_of(output), piece, type_of(input), group_->get(),
                           stream_);
    });
  }

  std::unique_ptr<UnderWay> start_all_gather_uneven(Tensor& x, const std::vector<int64_t>& counts,
                                                    const char* purpose) override {
    check_contract(x);
    check_pieces(x, counts);
    if (x.is_cpu()) return Communicator::start_all_gather_uneven(x, counts, purpose);
    return start("all-gather", purpose, {x}, [&] {
      call_pieces("ncclBroadcast", x, counts, purpose, [&](void* piece, int64_t count, int owner) {
        return ncclBroadcast(piece, piece, count, type_of(x), owner, group_->get(), stream_);
      });
    });
  }

  void broadcast(Tensor& x, int root, const char* purpose) override {
    const Collective collective(*this, "broadcast", purpose, bytes_in(x));
    check_contract(x);
    if (x.is_cpu()) return host_->broadcast(x, root, purpose);
    if (x.numel() == 0) return;
    enqueue("ncclBroadcast", purpose, [&] {
      return ncclBroadcast(bytes_of(x), bytes_of(x), x.numel(), type_of(x), root, group_->get(),
                           stream_);
    });
  }

  std::unique_ptr<UnderWay> start_all_to_all(const Tensor& input, const RowBlocks& send,
                                             Tensor& output, const RowBlocks& recv,
                                             const char* purpose) override;

  void barrier(const char* purpose) override {
    const Collective collective(*this, "barrier", purpose, 0);
    host_->barrier(purpose);
  }

  void abort() override {
    if (group_) group_->abort();
  }

 private:
  class Started;
  class OfHost;

  ncclUniqueId shared_id() {
    ncclUniqueId id{};
    const ncclResult_t made = rank() == 0 ? ncclGetUniqueId(&id) : ncclSuccess;
    if (made != ncclSuccess)
      throw CommError(std::string("ncclGetUniqueId: ") + ncclGetErrorString(made));
    Tensor bytes = at::empty({sizeof id}, at::kByte);
    std::memcpy(bytes_of(bytes), &id, sizeof id);
    host_->broadcast(bytes, /*root=*/0, "NCCL's id");
    std::memcpy(&id, bytes_of(bytes), sizeof id);
    return id;
  }

  void check_contract(const Tensor& x) const {
    TORCH_CHECK(x.is_contiguous() && (x.is_cpu() || x.device() == device_),
                "NCCL communicator: needs a contiguous tensor in host memory or on ", device_,
                ", got one on ", x.device());
    if (!x.is_cpu()) type_of(x);
  }

  void check_contract(const Tensor& input, const Tensor& output) const {
    check_contract(input);
    check_contract(output);
    TORCH_CHECK(input.dtype() == output.dtype() && input.device() == output.device(),
                "NCCL communicator: ", input.dtype(), " on ", input.device(), " into ",
                output.dtype(), " on ", output.device());
  }

  /// What `make` puts on the stream comes after what the current one has to do so far.
  template <class Make>
  void put_on_stream(const char* what, const char* purpose, const Make& make) {
    const c10::cuda::CUDAGuard guard(device_);
    group_->state(what, purpose);
    follow(stream_, c10::cuda::getCurrentCUDAStream(device_.index()), ready_);
    make();
  }

  /// The same for one call, at this place of the current stream's order.
  template <class Call>
  void enqueue(const char* what, const char* purpose, const Call& make) {
    put_on_stream(what, purpose, [&] { group_->call(what, purpose, make); });
    follow(c10::cuda::getCurrentCUDAStream(device_.index()), stream_, done_);
  }

  /// `make` calls, and the current stream goes on.
  template <class Make>
  std::unique_ptr<UnderWay> start(const char* op, const char* purpose, std::vector<Tensor> tensors,
                                  const Make& make);

  /// One call of `what` per piece of `x` that is not empty: make(piece, elements, its owner).
  template <class Call>
  void call_pieces(const char* what, const Tensor& x, const std::vector<int64_t>& counts,
                   const char* purpose, const Call& make) {
    group_->call_together(purpose, [&](auto&& add) {
      int64_t begin = 0;
      for (int owner = 0; owner < size(); begin += counts[owner++]) {
        if (counts[owner] == 0) continue;
        add(what, make(bytes_of(x) + begin * x.element_size(), counts[owner], owner));
      }
    });
  }

  /// One message per block of another rank that has rows, on both sides: places are of no concern
  /// to the other. This rank's own are copied.
  void move_rows(const Tensor& input, const RowBlocks& send, const Tensor& output,
                 const RowBlocks& recv, const char* purpose) {
    copy_own(input, send, output, recv, purpose);
    group_->call_together(purpose, [&](auto&& add) {
      for_each_message(recv, output, [&](int peer, char* rows, int64_t count) {
        add("ncclRecv", ncclRecv(rows, count, type_of(output), peer, group_->get(), stream_));
      });
      for_each_message(send, input, [&](int peer, char* rows, int64_t count) {
        add("ncclSend", ncclSend(rows, count, type_of(input), peer, group_->get(), stream_));
      });
    });
  }

  /// Calls `message(peer, rows, elements)` for all blocks of other ranks that have any, the next
  /// rank first.
  template <class Message>
  void for_each_message(const RowBlocks& blocks, const Tensor& x, const Message& message) const {
    const int64_t row_elements = c10::multiply_integers(x.sizes().slice(1));
    const size_t per_rank = blocks.rows.size() / size();
    for (int next = 1; next < size(); ++next) {
      const int peer = (rank() + next) % size();
      for (size_t i = peer * per_rank; i < (peer + 1) * per_rank; ++i) {
        if (blocks.rows[i] * row_elements == 0) continue;
        message(peer, bytes_of(x) + blocks.begin[i] * row_elements * x.element_size(),
                blocks.rows[i] * row_elements);
      }
    }
  }

  void copy_own(const Tensor& input, const RowBlocks& send, const Tensor& output,
                const RowBlocks& recv, const char* purpose) const {
    const c10::cuda::CUDAStreamGuard guard(stream_);
    const size_t per_rank = send.rows.size() / size(), first = rank() * per_rank;
    for (size_t i = first; i < first + per_rank; ++i) {
      if (send.rows[i] != recv.rows[i]) {
        const std::string own = std::to_string(rank());
        throw CommError(std::string("all-to-all, ") + purpose + ": rank " + own + " of " + name() +
                        " sends " + std::to_string(send.rows[i]) + " rows to rank " + own +
                        ", which expects " + std::to_string(recv.rows[i]));
      }
      output.narrow(0, recv.begin[i], recv.rows[i])
          .copy_(input.narrow(0, send.begin[i], send.rows[i]), /*non_blocking=*/true);
    }
  }

  void wait_for_stream(const char* purpose) {
    CUDAEvent end;
    end.record(stream_);
    group_->poll("wait", purpose, [&] { return end.query(); });
  }

  std::unique_ptr<Communicator> host_;
  const c10::Device device_;
  const CUDAStream stream_;
  CUDAEvent ready_, done_;
  std::optional<NcclGroup> group_;
};

/// Work on the stream, which the current stream follows at `wait`.
class NcclCommunicator::Started final : public UnderWay {
 public:
  /// `make` puts it there. `tensors`: what it reads and writes.
  template <class Make>
  Started(NcclCommunicator& communicator, const char* op, const char* purpose, int64_t bytes,
          const FlightRecord::Rows* rows, std::vector<Tensor> tensors, const Make& make)
      : communicator_(communicator), tensors_(std::move(tensors)) {
    collective_.emplace(communicator, op, purpose, bytes, rows);
    communicator.put_on_stream(op, purpose, make);
    over_.record(communicator.stream_);
    collective_->step_out();
  }

  /// What is not waited for has failed: its memory is left alone until the stream is done.
  ~Started() override {
    if (!collective_) return;
    for (const Tensor& x : tensors_)
      c10::cuda::CUDACachingAllocator::recordStream(x.storage().data_ptr(), communicator_.stream_);
  }

  void wait() override {
    collective_->step_in();
    over_.block(c10::cuda::getCurrentCUDAStream(communicator_.device_.index()));
    collective_.reset();
  }

 private:
  NcclCommunicator& communicator_;
  const std::vector<Tensor> tensors_;
  CUDAEvent over_;
  std::optional<Collective> collective_;  // until the end of `wait`
};

template <class Make>
std::unique_ptr<UnderWay> NcclCommunicator::start(const char* op, const char* purpose,
                                                  std::vector<Tensor> tensors, const Make& make) {
  const int64_t bytes = bytes_in(tensors[0]);
  return std::make_unique<Started>(*this, op, purpose, bytes, /*rows=*/nullptr, std::move(tensors),
                                   make);
}

/// Rows in host memory, which the host's communicator moves.
class NcclCommunicator::OfHost final : public UnderWay {
 public:
  OfHost(NcclCommunicator& communicator, const Tensor& input, const RowBlocks& send, Tensor& output,
         const RowBlocks& recv, const char* purpose, int64_t bytes,
         const FlightRecord::Rows& rows) {
    collective_.emplace(communicator, "all-to-all", purpose, bytes, &rows);
    rows_ = communicator.host_->start_all_to_all(input, send, output, recv, purpose);
    collective_->step_out();
  }

  void wait() override {
    collective_->step_in();
    rows_->wait();
    collective_.reset();
  }

 private:
  std::optional<Collective> collective_;  // until the end of `wait`
  std::unique_ptr<UnderWay> rows_;
};

std::unique_ptr<UnderWay> NcclCommunicator::start_all_to_all(const Tensor& input,
                                                             const RowBlocks& send, Tensor& output,
                                                             const RowBlocks& recv,
                                                             const char* purpose) {
  check_contract(input, output);
  check_blocks(input, send, output, recv);
  const std::vector<int64_t> to = send.by_rank(size()), from = recv.by_rank(size());
  const FlightRecord::Rows rows{to, from};
  const int64_t bytes =
      send.total() * c10::multiply_integers(input.sizes().slice(1)) * input.element_size();
  if (input.is_cpu())
    return std::make_unique<OfHost>(*this, input, send, output, recv, purpose, bytes, rows);
  return std::make_unique<Started>(*this, "all-to-all", purpose, bytes, &rows,
                                   std::vector<Tensor>{input, output},
                                   [&] { move_rows(input, send, output, recv, purpose); });
}

/// The same for no two GPUs, parts of a GPU included.
std::string name_of_gpu(c10::Device device) {
  const auto& uuid = at::cuda::getDeviceProperties(device.index())->uuid;
  std::string hex;
  for (const char byte : uuid.bytes) {
    constexpr const char* kDigits = "0123456789abcdef";
    hex += kDigits[(byte >> 4) & 15];
    hex += kDigits[byte & 15];
  }
  return "GPU-" + hex;
}

}  // namespace

void check_one_rank_per_gpu(Communicator& world, c10::Device device) {
  const auto gpus = all_gather_text(world, name_of_gpu(device), "GPUs of the ranks");
  for (size_t rank = 0; rank < gpus.size(); ++rank) {
    const size_t first = std::ranges::find(gpus, gpus[rank]) - gpus.begin();
    if (first == rank) continue;
    throw ConfigError("parallel.gpu_transport: nccl: wants one rank per GPU; ranks " +
                      std::to_string(first) + " and " + std::to_string(rank) + " share " +
                      gpus[rank] +
                      "; start as many ranks on a host as it has GPUs, or use "
                      "parallel.gpu_transport: mpi to share one GPU");
  }
}

std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host,
                                                     c10::Device device) {
  // Groups have work under way at once: a GPU that began with another's than the next one would
  // wait for ever. NCCL keeps the program's order between communicators only if told to.
  setenv("NCCL_LAUNCH_ORDER_IMPLICIT", "1", /*overwrite=*/0);
  return std::make_unique<NcclCommunicator>(std::move(host), device);
}

}  // namespace switchyard
