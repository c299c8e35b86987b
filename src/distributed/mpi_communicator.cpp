#include "distributed/mpi_communicator.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "distributed/check_mpi.h"

namespace switchyard {
namespace {

/// Sum of bfloat16 pairs in float32: MPI has no bfloat16. `datatype` is two bytes.
void sum_bfloat16(void* in, void* inout, int* length, MPI_Datatype* /*datatype*/) {
  const auto* a = static_cast<const at::BFloat16*>(in);
  auto* b = static_cast<at::BFloat16*>(inout);
  for (int i = 0; i < *length; ++i) b[i] = static_cast<float>(a[i]) + static_cast<float>(b[i]);
}

void max_bfloat16(void* in, void* inout, int* length, MPI_Datatype* /*datatype*/) {
  const auto* a = static_cast<const at::BFloat16*>(in);
  auto* b = static_cast<at::BFloat16*>(inout);
  for (int i = 0; i < *length; ++i)
    b[i] = std::max(static_cast<float>(a[i]), static_cast<float>(b[i]));
}

/// An MPI datatype that is freed at the end of its scope.
class OwnedType {
 public:
  OwnedType() = default;
  OwnedType(const OwnedType&) = delete;
  OwnedType& operator=(const OwnedType&) = delete;
  OwnedType(OwnedType&& other) noexcept : type_(std::exchange(other.type_, MPI_DATATYPE_NULL)) {}
  OwnedType& operator=(OwnedType&& other) noexcept {
    std::swap(type_, other.type_);
    return *this;
  }
  ~OwnedType() {
    if (type_ != MPI_DATATYPE_NULL) MPI_Type_free(&type_);
  }

  static OwnedType contiguous(int count, MPI_Datatype of, const char* purpose) {
    OwnedType made;
    check_mpi(MPI_Type_contiguous(count, of, &made.type_), "MPI_Type_contiguous", purpose);
    check_mpi(MPI_Type_commit(&made.type_), "MPI_Type_commit", purpose);
    return made;
  }

  MPI_Datatype get() const { return type_; }

 private:
  MPI_Datatype type_ = MPI_DATATYPE_NULL;
};

int64_t bytes_in(const at::Tensor& x) { return static_cast<int64_t>(x.nbytes()); }

char* bytes_of(const at::Tensor& x) { return static_cast<char*>(x.data_ptr()); }

std::vector<int64_t> prefix_sums(const std::vector<int64_t>& counts) {
  std::vector<int64_t> begins(counts.size());
  std::exclusive_scan(counts.begin(), counts.end(), begins.begin(), int64_t{0});
  return begins;
}

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(MPI_Comm comm, int rank, int size, const std::string& name, int64_t round_limit)
      : Communicator(rank, size, name), comm_(comm), round_limit_(round_limit) {
    bfloat16_ = OwnedType::contiguous(2, MPI_BYTE, "bfloat16");
    check_mpi(MPI_Op_create(sum_bfloat16, /*commute=*/1, &sum_bfloat16_), "MPI_Op_create",
              "bfloat16 sum");
    check_mpi(MPI_Op_create(max_bfloat16, /*commute=*/1, &max_bfloat16_), "MPI_Op_create",
              "bfloat16 max");
  }

  ~MpiCommunicator() override {
    MPI_Op_free(&sum_bfloat16_);
    MPI_Op_free(&max_bfloat16_);
    MPI_Comm_free(&comm_);
  }

  void all_reduce(at::Tensor& x, ReduceOp op, const char* purpose) override {
    const Collective call(*this, "all-reduce", purpose, bytes_in(x));
    check_contract(x);
    for_each_round(x.numel(), [&](int64_t begin, int count) {
      check_mpi(MPI_Allreduce(MPI_IN_PLACE, bytes_of(x) + begin * x.element_size(), count,
                              type_of(x), op_of(x, op), comm_),
                "MPI_Allreduce", purpose);
    });
  }

  void reduce_scatter(const at::Tensor& input, at::Tensor& output, const char* purpose) override {
    const Collective call(*this, "reduce-scatter", purpose, bytes_in(input));
    check_contract(input);
    check_contract(output);
    const int64_t piece = output.numel();
    TORCH_CHECK(input.numel() == piece * size() && input.dtype() == output.dtype(),
                "reduce_scatter: input must hold ", size(), " pieces of ", piece, " elements");
    if (input.numel() <= round_limit_) {  // MPI multiplies the piece by the ranks in an int
      reduce_scatter_in_parts(input, output, purpose);
      return;
    }
    reduce_in_rounds(input, std::vector<int64_t>(size(), piece), output, purpose);
  }

  void reduce_scatter_uneven(const at::Tensor& input, const std::vector<int64_t>& counts,
                             at::Tensor& output, const char* purpose) override {
    const Collective call(*this, "reduce-scatter", purpose, bytes_in(input));
    check_contract(input);
    check_contract(output);
    const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    TORCH_CHECK(static_cast<int>(counts.size()) == size() && total == input.numel() &&
                    counts[rank()] == output.numel() && input.dtype() == output.dtype(),
                "reduce_scatter: ", counts.size(), " pieces of ", total, " elements in all for ",
                input.numel(), " elements over ", size(), " ranks");
    if (total > round_limit_) {
      reduce_in_rounds(input, counts, output, purpose);
      return;
    }
    const std::vector<int> pieces(counts.begin(), counts.end());
    check_mpi(MPI_Reduce_scatter(bytes_of(input), bytes_of(output), pieces.data(), type_of(input),
                                 op_of(input, ReduceOp::kSum), comm_),
              "MPI_Reduce_scatter", purpose);
  }

  void all_gather(const at::Tensor& input, at::Tensor& output, const char* purpose) override {
    const Collective call(*this, "all-gather", purpose, bytes_in(input));
    check_contract(input);
    check_contract(output);
    const int64_t piece = input.numel();
    TORCH_CHECK(output.numel() == piece * size() && input.dtype() == output.dtype(),
                "all_gather: output must hold ", size(), " pieces of ", piece, " elements");
    char* own = bytes_of(output) + rank() * input.nbytes();
    const bool in_place = own == bytes_of(input);
    if (piece * size() <= round_limit_) {
      const int count = static_cast<int>(piece);
      check_mpi(MPI_Allgather(in_place ? MPI_IN_PLACE : bytes_of(input), count, type_of(input),
                              bytes_of(output), count, type_of(output), comm_),
                "MPI_Allgather", purpose);
      return;
    }
    if (!in_place) std::copy_n(bytes_of(input), input.nbytes(), own);
    for (int root = 0; root < size(); ++root) {
      broadcast_range(output, root * piece, piece, root, purpose);
    }
  }

  void broadcast(at::Tensor& x, int root, const char* purpose) override {
    const Collective call(*this, "broadcast", purpose, bytes_in(x));
    check_contract(x);
    broadcast_range(x, 0, x.numel(), root, purpose);
  }

  std::unique_ptr<UnderWay> start_all_to_all(const at::Tensor& input, const RowBlocks& send,
                                             at::Tensor& output, const RowBlocks& recv,
                                             const char* purpose) override;

  void barrier(const char* purpose) override {
    const Collective call(*this, "barrier", purpose, 0);
    check_mpi(MPI_Barrier(comm_), "MPI_Barrier", purpose);
  }

 private:
  class Exchange;

  static void check_contract(const at::Tensor& x) {
    TORCH_CHECK(x.is_contiguous() && x.device().is_cpu(),
                "MPI communicator: needs a contiguous tensor in host memory");
  }

  MPI_Datatype type_of(const at::Tensor& x) const {
    switch (x.scalar_type()) {
      case at::kFloat:
        return MPI_FLOAT;
      case at::kDouble:
        return MPI_DOUBLE;
      case at::kBFloat16:
        return bfloat16_.get();
      case at::kInt:
        return MPI_INT32_T;
      case at::kLong:
        return MPI_INT64_T;
      case at::kByte:
        return MPI_UINT8_T;
      default:
        TORCH_CHECK(false, "MPI communicator: no MPI type for ", x.dtype());
    }
  }

  MPI_Op op_of(const at::Tensor& x, ReduceOp op) const {
    if (x.scalar_type() == at::kBFloat16)
      return op == ReduceOp::kSum ? sum_bfloat16_ : max_bfloat16_;
    return op == ReduceOp::kSum ? MPI_SUM : MPI_MAX;
  }

  /// Calls `round(begin, count)` over [0, total) in pieces that fit an int.
  template <class Round>
  void for_each_round(int64_t total, const Round& round) const {
    for (int64_t begin = 0; begin < total; begin += round_limit_) {
      round(begin, static_cast<int>(std::min(round_limit_, total - begin)));
    }
  }

  /// Equal pieces, some of each at a time: Open MPI's reduce-scatter takes up to twice its
  /// input as buffers, on rank 0 alone. Parts of half a million elements and more are still
  /// summed in the order of the whole.
  void reduce_scatter_in_parts(const at::Tensor& input, at::Tensor& output, const char* purpose) {
    constexpr int64_t kPart = 1 << 20;
    const int64_t piece = output.numel(),
                  rounds = std::max<int64_t>(1, (piece + kPart - 1) / kPart),
                  part = (piece + rounds - 1) / rounds, bytes = input.element_size();
    at::Tensor gathered = at::empty({size() * part}, input.options());
    at::Tensor summed = at::empty({part}, input.options());
    for (int64_t begin = 0; begin < piece; begin += part) {
      const int64_t count = std::min(part, piece - begin);
      for (int64_t r = 0; r < size(); ++r) {
        std::copy_n(bytes_of(input) + (r * piece + begin) * bytes, count * bytes,
                    bytes_of(gathered) + r * count * bytes);
      }
      check_mpi(
          MPI_Reduce_scatter_block(bytes_of(gathered), bytes_of(summed), static_cast<int>(count),
                                   type_of(input), op_of(input, ReduceOp::kSum), comm_),
          "MPI_Reduce_scatter_block", purpose);
      std::copy_n(bytes_of(summed), count * bytes, bytes_of(output) + begin * bytes);
    }
  }

  /// A reduce-scatter of any length: each piece to its rank, in rounds.
  void reduce_in_rounds(const at::Tensor& input, const std::vector<int64_t>& counts,
                        at::Tensor& output, const char* purpose) {
    const std::vector<int64_t> first = prefix_sums(counts);
    for (int target = 0; target < size(); ++target) {
      for_each_round(counts[target], [&](int64_t begin, int count) {
        const char* from = bytes_of(input) + (first[target] + begin) * input.element_size();
        char* to = bytes_of(output) + begin * output.element_size();
        const bool here = target == rank();
        const bool in_place = here && to == from;
        check_mpi(MPI_Reduce(in_place ? MPI_IN_PLACE : from, here ? to : nullptr, count,
                             type_of(input), op_of(input, ReduceOp::kSum), target, comm_),
                  "MPI_Reduce", purpose);
      });
    }
  }

  void broadcast_range(at::Tensor& x, int64_t first, int64_t total, int root, const char* purpose) {
    for_each_round(total, [&](int64_t begin, int count) {
      check_mpi(MPI_Bcast(bytes_of(x) + (first + begin) * x.element_size(), count, type_of(x), root,
                          comm_),
                "MPI_Bcast", purpose);
    });
  }

  /// For the next exchange: several may be under way, and what one leaves behind that failed is
  /// not taken for another's. MPI has at least these tags.
  int next_tag() { return tag_ = (tag_ + 1) % 32768; }

  MPI_Comm comm_;
  int64_t round_limit_;
  int tag_ = 0;
  OwnedType bfloat16_;
  MPI_Op sum_bfloat16_ = MPI_OP_NULL;
  MPI_Op max_bfloat16_ = MPI_OP_NULL;
};

/// One message per block, empty ones too: a receiver sees what others send. MPI takes the rows
/// from their places and puts them into theirs.
class MpiCommunicator::Exchange final : public UnderWay {
 public:
  Exchange(MpiCommunicator& communicator, const at::Tensor& input, const RowBlocks& send,
           const at::Tensor& output, const RowBlocks& recv, const char* purpose)
      : communicator_(communicator),
        purpose_(purpose),
        input_(input),
        output_(output),
        send_(send),
        recv_(recv),
        row_bytes_(input.element_size() * c10::multiply_integers(input.sizes().slice(1))),
        row_(OwnedType::contiguous(static_cast<int>(c10::multiply_integers(input.sizes().slice(1))),
                                   communicator.type_of(input), purpose)) {
    const std::vector<int64_t> to = send.by_rank(ranks()), from = recv.by_rank(ranks());
    const FlightRecord::Rows rows{to, from};
    call_.emplace(communicator, "all-to-all", purpose, send.total() * row_bytes_, &rows);
    const int tag = communicator.next_tag();
    for_each_message(recv_, [&](int peer, int64_t begin, int count, int64_t before) {
      Receive& receive = receives_.emplace_back(Receive{MPI_REQUEST_NULL, peer, count, before});
      check_mpi(MPI_Irecv(bytes_of(output_) + begin * row_bytes_, count, row_.get(), peer, tag,
                          communicator_.comm_, &receive.request),
                "MPI_Irecv", purpose_);
    });
    for_each_message(send_, [&](int peer, int64_t begin, int count, int64_t /*before*/) {
      check_mpi(MPI_Isend(bytes_of(input_) + begin * row_bytes_, count, row_.get(), peer, tag,
                          communicator_.comm_, &sends_.emplace_back(MPI_REQUEST_NULL)),
                "MPI_Isend", purpose_);
    });
    copy_own();
    call_->step_out();
  }

  /// What is not waited for has failed: its messages are given up.
  ~Exchange() override {
    for (Receive& receive : receives_) {
      if (receive.request == MPI_REQUEST_NULL) continue;
      MPI_Cancel(&receive.request);
      MPI_Request_free(&receive.request);
    }
    for (MPI_Request& request : sends_) {
      if (request != MPI_REQUEST_NULL) MPI_Request_free(&request);
    }
  }

  void wait() override {
    call_->step_in();
    check_own();
    for (Receive& receive : receives_) finish(receive);
    check_mpi(MPI_Waitall(static_cast<int>(sends_.size()), sends_.data(), MPI_STATUSES_IGNORE),
              "MPI_Waitall", purpose_);
    call_.reset();
  }

 private:
  struct Receive {
    MPI_Request request;
    int peer, count;  // rows
    int64_t before;   // rows of the block in earlier messages
  };

  int ranks() const { return communicator_.size(); }

  /// Calls `message(peer, begin, count, before)` for all blocks that are not this rank's own, the
  /// next rank first.
  template <class Message>
  void for_each_message(const RowBlocks& blocks, const Message& message) const {
    const size_t per_rank = blocks.rows.size() / ranks();
    for (int next = 1; next < ranks(); ++next) {
      const int peer = (communicator_.rank() + next) % ranks();
      for (size_t i = peer * per_rank; i < (peer + 1) * per_rank; ++i) {
        if (blocks.rows[i] == 0) message(peer, blocks.begin[i], 0, 0);
        communicator_.for_each_round(blocks.rows[i], [&](int64_t before, int count) {
          message(peer, blocks.begin[i] + before, count, before);
        });
      }
    }
  }

  template <class Body>
  void for_each_own(const Body& body) const {
    const size_t per_rank = send_.rows.size() / ranks(), first = communicator_.rank() * per_rank;
    for (size_t i = first; i < first + per_rank; ++i) body(i);
  }

  void copy_own() {
    for_each_own([&](size_t i) {
      std::copy_n(bytes_of(input_) + send_.begin[i] * row_bytes_,
                  std::min(send_.rows[i], recv_.rows[i]) * row_bytes_,
                  bytes_of(output_) + recv_.begin[i] * row_bytes_);
    });
  }

  void check_own() const {
    for_each_own([&](size_t i) {
      if (send_.rows[i] == recv_.rows[i]) return;
      throw_unmatched(communicator_.rank(), send_.rows[i], recv_.rows[i]);
    });
  }

  /// Too long a message is an error of MPI; too short a one is not.
  void finish(Receive& receive) {
    MPI_Status status;
    const int code = MPI_Wait(&receive.request, &status);
    int error_class = MPI_SUCCESS, count = 0;
    if (code != MPI_SUCCESS) MPI_Error_class(code, &error_class);
    if (error_class != MPI_ERR_TRUNCATE) check_mpi(code, "MPI_Wait", purpose_);
    check_mpi(MPI_Get_count(&status, row_.get(), &count), "MPI_Get_count", purpose_);
    if (count == receive.count) return;
    throw_unmatched(receive.peer, receive.before + count, receive.before + receive.count);
  }

  [[noreturn]] void throw_unmatched(int from, int64_t sent, int64_t expected) const {
    throw CommError(std::string("all-to-all, ") + purpose_ + ": rank " + std::to_string(from) +
                    " of " + communicator_.name() + " sends " + std::to_string(sent) +
                    " rows to rank " + std::to_string(communicator_.rank()) + ", which expects " +
                    std::to_string(expected));
  }

  MpiCommunicator& communicator_;
  const char* const purpose_;
  const at::Tensor input_, output_;
  const RowBlocks send_, recv_;
  const int64_t row_bytes_;
  const OwnedType row_;
  std::vector<Receive> receives_;
  std::vector<MPI_Request> sends_;
  std::optional<Collective> call_;  // until the end of `wait`
};

std::unique_ptr<UnderWay> MpiCommunicator::start_all_to_all(const at::Tensor& input,
                                                            const RowBlocks& send,
                                                            at::Tensor& output,
                                                            const RowBlocks& recv,
                                                            const char* purpose) {
  check_contract(input);
  check_contract(output);
  check_blocks(input, send, output, recv);
  return std::make_unique<Exchange>(*this, input, send, output, recv, purpose);
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(MPI_Comm parent, int color, int key,
                                                    const std::string& name, int64_t round_limit) {
  MPI_Comm comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split(parent, color, key, &comm), "MPI_Comm_split", name);
  check_mpi(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler", name);
  int rank = 0, size = 0;
  check_mpi(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank", name);
  check_mpi(MPI_Comm_size(comm, &size), "MPI_Comm_size", name);
  return std::make_unique<MpiCommunicator>(comm, rank, size, name, round_limit);
}

}  // namespace switchyard
