#include "distributed/nccl_communicator.h"

#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <nccl.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <numeric>
#include <optional>
#include <stop_token>
#include <thread>

#include "base/error.h"

namespace switchyard {
namespace {

using at::Tensor;
using at::cuda::CUDAEvent;
using c10::cuda::CUDAStream;

/// The process ends sooner after an abort.
constexpr auto kEnd = std::chrono::seconds(5);

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
    ncclUniqueId id = shared_id();
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    check(ncclCommInitRankConfig(&comm_, size(), id, rank(), &config), "ncclCommInitRankConfig",
          "start");
    poll("ncclCommInitRankConfig", "start",
         [&] { return state("ncclCommInitRankConfig", "start") == ncclSuccess; });
    Tensor x = at::ones({1}, at::device(device_).dtype(at::kFloat));
    all_reduce(x, ReduceOp::kSum, "warm-up");
    wait_for_stream("warm-up");
    start_to_watch();
  }

  ~NcclCommunicator() override {
    watcher_ = {};  // asks it to stop, and waits
    if (comm_ == nullptr) return;
    if (failed_ || std::uncaught_exceptions() > 0) {  // the others may not come to an orderly end
      ncclCommAbort(comm_);
      return;
    }
    ncclResult_t result = ncclCommFinalize(comm_);
    while (result == ncclInProgress && ncclCommGetAsyncError(comm_, &result) == ncclSuccess) {
    }
    ncclCommDestroy(comm_);
  }

  void all_reduce(Tensor& x, ReduceOp op, const char* purpose) override {
    const Collective collective(*this, "all-reduce", purpose, bytes_in(x));
    check_contract(x);
    if (x.is_cpu()) return host_->all_reduce(x, op, purpose);
    if (x.numel() == 0) return;
    enqueue("ncclAllReduce", purpose, [&] {
      return ncclAllReduce(bytes_of(x), bytes_of(x), x.numel(), type_of(x),
                           op == ReduceOp::kSum ? ncclSum : ncclMax, comm_, stream_);
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
                               comm_, stream_);
    });
  }

  void reduce_scatter_uneven(const Tensor& input, const std::vector<int64_t>& counts,
                             Tensor& output, const char* purpose) override {
    const Collective collective(*this, "reduce-scatter", purpose, bytes_in(input));
    check_contract(input, output);
    if (input.is_cpu()) return host_->reduce_scatter_uneven(input, counts, output, purpose);
    const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    TORCH_CHECK(static_cast<int>(counts.size()) == size() && total == input.numel() &&
                    counts[rank()] == output.numel(),
                "reduce_scatter: ", counts.size(), " pieces of ", total, " elements in all for ",
                input.numel(), " elements over ", size(), " ranks");
    enqueue_group(purpose, [&](auto&& add) {
      int64_t begin = 0;
      for (int to = 0; to < size(); begin += counts[to++]) {
        if (counts[to] == 0) continue;
        add("ncclReduce", ncclReduce(bytes_of(input) + begin * input.element_size(),
                                     to == rank() ? bytes_of(output) : nullptr, counts[to],
                                     type_of(input), ncclSum, to, comm_, stream_));
      }
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
      return ncclAllGather(bytes_of(input), bytes_of(output), piece, type_of(input), comm_,
                           stream_);
    });
  }

  void broadcast(Tensor& x, int root, const char* purpose) override {
    const Collective collective(*this, "broadcast", purpose, bytes_in(x));
    check_contract(x);
    if (x.is_cpu()) return host_->broadcast(x, root, purpose);
    if (x.numel() == 0) return;
    enqueue("ncclBroadcast", purpose, [&] {
      return ncclBroadcast(bytes_of(x), bytes_of(x), x.numel(), type_of(x), root, comm_, stream_);
    });
  }

  std::unique_ptr<RowsUnderWay> start_all_to_all(const Tensor& input, const RowBlocks& send,
                                                 Tensor& output, const RowBlocks& recv,
                                                 const char* purpose) override;

  void barrier(const char* purpose) override {
    const Collective collective(*this, "barrier", purpose, 0);
    host_->barrier(purpose);
  }

  /// Calls of the other thread wait for the end of the process from now on.
  void abort() override {
    const std::lock_guard lock(mutex_);
    if (comm_ == nullptr) return;
    ncclCommAbort(comm_);
    comm_ = nullptr;
  }

 private:
  class Exchange;

  ncclUniqueId shared_id() {
    ncclUniqueId id{};
    if (rank() == 0) check(ncclGetUniqueId(&id), "ncclGetUniqueId", "start");
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

  /// Of a call that is over, or that NCCL goes on with by itself.
  static bool is_good(ncclResult_t result) {
    return result == ncclSuccess || result == ncclInProgress;
  }

  std::string message(ncclResult_t result, const std::string& what) const {
    const char* detail = comm_ == nullptr ? "" : ncclGetLastError(comm_);
    return what + ": rank " + std::to_string(rank()) + " of " + std::to_string(size()) + " of " +
           name() + ": " + ncclGetErrorString(result) + (*detail == '\0' ? "" : ": ") + detail;
  }

  void check(ncclResult_t result, const char* what, const char* purpose) {
    if (is_good(result)) return;
    failed_ = true;
    throw CommError(message(result, std::string(what) + ", " + purpose));
  }

  /// After an abort: by this communicator, which knows why, or before the process ends.
  [[noreturn]] void throw_lost(const char* what, const char* purpose) {
    if (failure_.empty()) std::this_thread::sleep_for(kEnd);  // who has aborted tells why
    throw CommError(std::string(what) + ", " + purpose + ": " +
                    (failure_.empty() ? name() + " was given up" : failure_));
  }

  /// What NCCL has met by now, on its own threads and on the network.
  ncclResult_t state(const char* what, const char* purpose) {
    std::unique_lock lock(mutex_);
    ncclResult_t now = ncclSuccess;
    if (comm_ != nullptr) {
      check(ncclCommGetAsyncError(comm_, &now), "ncclCommGetAsyncError", purpose);
      check(now, what, purpose);
      return now;
    }
    lock.unlock();
    throw_lost(what, purpose);
  }

  /// In a thread of its own, for when the host waits for the GPU: work that can no longer end is
  /// aborted, so that the wait ends and the next call tells why.
  void watch(const std::stop_token& stop) {
    constexpr auto kLook = std::chrono::milliseconds(100);
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, stop, kLook, [&] { return stop.stop_requested(); })) {
      if (stop.stop_requested() || comm_ == nullptr) return;
      ncclResult_t now = ncclSuccess;
      const ncclResult_t asked = ncclCommGetAsyncError(comm_, &now);
      if (is_good(asked) && is_good(now)) continue;
      failure_ = message(is_good(asked) ? now : asked, "ncclCommGetAsyncError");
      ncclCommAbort(comm_);
      comm_ = nullptr;
    }
  }

  void start_to_watch() {
    sigset_t all, before;  // signals are for the main thread
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    watcher_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  /// Waits until `done()`, and looks for errors meanwhile.
  template <class Done>
  void poll(const char* what, const char* purpose, const Done& done) {
    constexpr int kEager = 1000;
    for (int tries = 0; !done(); ++tries) {
      state(what, purpose);
      if (tries < kEager) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(100));
      }
    }
  }

  /// A call of NCCL, until NCCL is through with it: its work is on the stream.
  template <class Call>
  void call(const char* what, const char* purpose, const Call& make) {
    std::unique_lock lock(mutex_);
    const bool is_lost = comm_ == nullptr;
    if (!is_lost) check(make(), what, purpose);
    lock.unlock();
    if (is_lost) throw_lost(what, purpose);
    poll(what, purpose, [&] { return state(what, purpose) == ncclSuccess; });
  }

  /// `make` puts work on the stream, which the current stream's order has at this place.
  template <class Call>
  void enqueue(const char* what, const char* purpose, const Call& make) {
    const c10::cuda::CUDAGuard guard(device_);
    state(what, purpose);
    const CUDAStream current = c10::cuda::getCurrentCUDAStream(device_.index());
    follow(stream_, current, ready_);
    call(what, purpose, make);
    follow(current, stream_, done_);
  }

  /// The same for calls that `make` hands to what it is given.
  template <class Calls>
  void enqueue_group(const char* purpose, const Calls& make) {
    enqueue("ncclGroupEnd", purpose, [&] { return in_group(purpose, make); });
  }

  template <class Calls>
  ncclResult_t in_group(const char* purpose, const Calls& make) {
    check(ncclGroupStart(), "ncclGroupStart", purpose);
    make([&](const char* what, ncclResult_t result) { check(result, what, purpose); });
    return ncclGroupEnd();
  }

  void wait_for_stream(const char* purpose) {
    CUDAEvent end;
    end.record(stream_);
    poll("wait", purpose, [&] { return end.query(); });
  }

  std::unique_ptr<Communicator> host_;
  const c10::Device device_;
  const CUDAStream stream_;
  CUDAEvent ready_, done_;
  std::mutex mutex_;  // of the next two
  ncclComm_t comm_ = nullptr;
  std::string failure_;  // why comm_ was aborted from here
  bool failed_ = false;
  std::condition_variable_any wake_;
  std::jthread watcher_;
};

/// One message per block that has rows: places are of no concern to the other side.
class NcclCommunicator::Exchange final : public RowsUnderWay {
 public:
  Exchange(NcclCommunicator& communicator, const Tensor& input, const RowBlocks& send,
           Tensor& output, const RowBlocks& recv, const char* purpose)
      : communicator_(communicator), input_(input), output_(output) {
    const int ranks = communicator.size();
    const std::vector<int64_t> to = send.by_rank(ranks), from = recv.by_rank(ranks);
    const FlightRecord::Rows rows{to, from};
    row_elements_ = c10::multiply_integers(input.sizes().slice(1));
    const int64_t bytes = send.total() * row_elements_ * input.element_size();
    collective_.emplace(communicator, "all-to-all", purpose, bytes, &rows);
    if (input.is_cpu()) {
      host_rows_ = communicator.host_->start_all_to_all(input, send, output, recv, purpose);
    } else {
      start(send, recv, purpose);
    }
    collective_->step_out();
  }

  /// What is not waited for has failed: its memory is left alone until the stream is done.
  ~Exchange() override {
    if (!collective_ || host_rows_) return;
    for (const Tensor& x : {input_, output_})
      c10::cuda::CUDACachingAllocator::recordStream(x.storage().data_ptr(), communicator_.stream_);
  }

  void wait() override {
    collective_->step_in();
    if (host_rows_) {
      host_rows_->wait();
    } else {
      arrived_.block(c10::cuda::getCurrentCUDAStream(communicator_.device_.index()));
    }
    collective_.reset();
  }

 private:
  void start(const RowBlocks& send, const RowBlocks& recv, const char* purpose) {
    const c10::cuda::CUDAGuard guard(communicator_.device_);
    const CUDAStream& stream = communicator_.stream_;
    communicator_.state("all-to-all", purpose);
    follow(stream, c10::cuda::getCurrentCUDAStream(communicator_.device_.index()),
           communicator_.ready_);
    copy_own(send, recv, purpose);
    communicator_.call("ncclGroupEnd", purpose, [&] {
      return communicator_.in_group(purpose, [&](auto&& add) {
        for_each_message(recv, output_, [&](int peer, char* rows, int64_t count) {
          add("ncclRecv",
              ncclRecv(rows, count, type_of(output_), peer, communicator_.comm_, stream));
        });
        for_each_message(send, input_, [&](int peer, char* rows, int64_t count) {
          add("ncclSend",
              ncclSend(rows, count, type_of(input_), peer, communicator_.comm_, stream));
        });
      });
    });
    arrived_.record(stream);
  }

  /// Calls `message(peer, rows, elements)` for all blocks of other ranks that have any, the next
  /// rank first.
  template <class Message>
  void for_each_message(const RowBlocks& blocks, const Tensor& x, const Message& message) const {
    const int ranks = communicator_.size();
    const size_t per_rank = blocks.rows.size() / ranks;
    for (int next = 1; next < ranks; ++next) {
      const int peer = (communicator_.rank() + next) % ranks;
      for (size_t i = peer * per_rank; i < (peer + 1) * per_rank; ++i) {
        if (blocks.rows[i] * row_elements_ == 0) continue;
        message(peer, bytes_of(x) + blocks.begin[i] * row_elements_ * x.element_size(),
                blocks.rows[i] * row_elements_);
      }
    }
  }

  void copy_own(const RowBlocks& send, const RowBlocks& recv, const char* purpose) const {
    const c10::cuda::CUDAStreamGuard guard(communicator_.stream_);
    const size_t per_rank = send.rows.size() / communicator_.size(),
                 first = communicator_.rank() * per_rank;
    for (size_t i = first; i < first + per_rank; ++i) {
      if (send.rows[i] != recv.rows[i]) {
        const std::string own = std::to_string(communicator_.rank());
        throw CommError(std::string("all-to-all, ") + purpose + ": rank " + own + " of " +
                        communicator_.name() + " sends " + std::to_string(send.rows[i]) +
                        " rows to rank " + own + ", which expects " + std::to_string(recv.rows[i]));
      }
      output_.narrow(0, recv.begin[i], recv.rows[i])
          .copy_(input_.narrow(0, send.begin[i], send.rows[i]), /*non_blocking=*/true);
    }
  }

  NcclCommunicator& communicator_;
  const Tensor input_, output_;
  int64_t row_elements_ = 0;
  CUDAEvent arrived_;
  std::unique_ptr<RowsUnderWay> host_rows_;  // where the tensors are in host memory
  std::optional<Collective> collective_;     // until the end of `wait`
};

std::unique_ptr<RowsUnderWay> NcclCommunicator::start_all_to_all(const Tensor& input,
                                                                 const RowBlocks& send,
                                                                 Tensor& output,
                                                                 const RowBlocks& recv,
                                                                 const char* purpose) {
  check_contract(input, output);
  check_blocks(input, send, output, recv);
  return std::make_unique<Exchange>(*this, input, send, output, recv, purpose);
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
  return std::make_unique<NcclCommunicator>(std::move(host), device);
}

}  // namespace switchyard
