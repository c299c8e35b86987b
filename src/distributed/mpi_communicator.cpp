#include "distributed/mpi_communicator.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

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

  /// `count` elements of `of`, `displacement` bytes after the buffer's start.
  static OwnedType displaced(int count, MPI_Aint displacement, MPI_Datatype of,
                             const char* purpose) {
    OwnedType made;
    check_mpi(MPI_Type_create_hindexed(1, &count, &displacement, of, &made.type_),
              "MPI_Type_create_hindexed", purpose);
    check_mpi(MPI_Type_commit(&made.type_), "MPI_Type_commit", purpose);
    return made;
  }

  MPI_Datatype get() const { return type_; }

 private:
  MPI_Datatype type_ = MPI_DATATYPE_NULL;
};

int64_t bytes_in(const at::Tensor& x) { return static_cast<int64_t>(x.nbytes()); }

char* bytes_of(const at::Tensor& x) { return static_cast<char*>(x.data_ptr()); }

/// A number that looks random, of a pair of ranks and what passes between them.
uint64_t mix(int pair, int64_t rows) {
  uint64_t x = (static_cast<uint64_t>(pair) << 40U) + static_cast<uint64_t>(rows);
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;  // splitmix64
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31U);
}

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

  at::Tensor all_to_all(const at::Tensor& input, const std::vector<int64_t>& send_rows,
                        const std::vector<int64_t>& recv_rows, const char* purpose) override {
    const FlightRecord::Rows rows{send_rows, recv_rows};
    const Collective call(*this, "all-to-all", purpose, bytes_in(input), &rows);
    check_contract(input);
    const auto total = [](const std::vector<int64_t>& counts) {
      return std::accumulate(counts.begin(), counts.end(), int64_t{0});
    };
    TORCH_CHECK(input.dim() >= 1 && static_cast<int>(send_rows.size()) == size() &&
                    static_cast<int>(recv_rows.size()) == size() &&
                    total(send_rows) == input.size(0),
                "all_to_all: ", send_rows.size(), " send counts that sum to ", total(send_rows),
                " for ", input.sizes(), " over ", size(), " ranks");
    std::vector<int64_t> shape = input.sizes().vec();
    shape[0] = total(recv_rows);
    at::Tensor output = at::empty(shape, input.options());
    const int64_t row_elements = c10::multiply_integers(input.sizes().slice(1));
    const OwnedType row =
        OwnedType::contiguous(static_cast<int>(row_elements), type_of(input), purpose);

    // All ranks take the same way: rounds as soon as one of them needs rounds.
    const bool fits = std::max(input.size(0), output.size(0)) <= round_limit_;
    uint64_t sums[] = {fits ? 0U : 1U, unmatched_rows(send_rows, recv_rows)};
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, sums, 2, MPI_UINT64_T, MPI_SUM, comm_), "MPI_Allreduce",
              purpose);
    if (sums[1] != 0) throw_unmatched(send_rows, recv_rows, purpose);
    if (sums[0] == 0) {
      exchange_at_once(input, send_rows, output, recv_rows, row.get(), purpose);
    } else {
      exchange_in_rounds(input, send_rows, output, recv_rows, row.get(), purpose);
    }
    return output;
  }

  void barrier(const char* purpose) override {
    const Collective call(*this, "barrier", purpose, 0);
    check_mpi(MPI_Barrier(comm_), "MPI_Barrier", purpose);
  }

 private:
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

  /// Sums to 0 over the ranks (mod 2^64) when every rank expects what the others send:
  /// MPI itself may hang, or leave rows unwritten without a word.
  uint64_t unmatched_rows(const std::vector<int64_t>& send_rows,
                          const std::vector<int64_t>& recv_rows) const {
    uint64_t sum = 0;
    for (int peer = 0; peer < size(); ++peer) {
      sum += mix(rank() * size() + peer, send_rows[peer]);
      sum -= mix(peer * size() + rank(), recv_rows[peer]);
    }
    return sum;
  }

  /// Names the first pair of ranks that do not agree. Collective.
  [[noreturn]] void throw_unmatched(const std::vector<int64_t>& send_rows,
                                    const std::vector<int64_t>& recv_rows, const char* purpose) {
    const auto gather = [&](const std::vector<int64_t>& mine) {
      std::vector<int64_t> all(static_cast<size_t>(size()) * size());
      check_mpi(
          MPI_Allgather(mine.data(), size(), MPI_INT64_T, all.data(), size(), MPI_INT64_T, comm_),
          "MPI_Allgather", purpose);
      return all;
    };
    const std::vector<int64_t> sent = gather(send_rows), expected = gather(recv_rows);
    for (int from = 0; from < size(); ++from) {
      for (int to = 0; to < size(); ++to) {
        const int64_t rows = sent[from * size() + to], wanted = expected[to * size() + from];
        if (rows == wanted) continue;
        throw CommError(std::string("all-to-all, ") + purpose + ": rank " + std::to_string(from) +
                        " of " + name() + " sends " + std::to_string(rows) + " rows to rank " +
                        std::to_string(to) + ", which expects " + std::to_string(wanted));
      }
    }
    throw CommError(std::string("all-to-all, ") + purpose + ": the row counts were corrupted");
  }

  void exchange_at_once(const at::Tensor& input, const std::vector<int64_t>& send_rows,
                        at::Tensor& output, const std::vector<int64_t>& recv_rows, MPI_Datatype row,
                        const char* purpose) {
    const auto to_ints = [](const std::vector<int64_t>& x) {
      return std::vector<int>(x.begin(), x.end());
    };
    const auto send = to_ints(send_rows), send_at = to_ints(prefix_sums(send_rows));
    const auto recv = to_ints(recv_rows), recv_at = to_ints(prefix_sums(recv_rows));
    check_mpi(MPI_Alltoallv(bytes_of(input), send.data(), send_at.data(), row, bytes_of(output),
                            recv.data(), recv_at.data(), row, comm_),
              "MPI_Alltoallv", purpose);
  }

  /// MPI 3 displacements are ints, so each round's pieces carry theirs in a
  /// datatype (MPI_Aint bytes) and the call itself displaces nothing.
  void exchange_in_rounds(const at::Tensor& input, const std::vector<int64_t>& send_rows,
                          at::Tensor& output, const std::vector<int64_t>& recv_rows,
                          MPI_Datatype row, const char* purpose) {
    int64_t most = std::max(input.size(0), output.size(0));
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, &most, 1, MPI_INT64_T, MPI_MAX, comm_), "MPI_Allreduce",
              purpose);
    const int64_t row_bytes = input.element_size() * c10::multiply_integers(input.sizes().slice(1));
    const auto send_at = prefix_sums(send_rows), recv_at = prefix_sums(recv_rows);
    const std::vector<int> no_displacement(size(), 0);
    for (int64_t begin = 0; begin < most; begin += round_limit_) {
      std::vector<OwnedType> owned;
      std::vector<int> send_counts(size()), recv_counts(size());
      std::vector<MPI_Datatype> send_types(size()), recv_types(size());
      const auto piece = [&](int64_t rows, int64_t at, int& count, MPI_Datatype& type) {
        const int64_t here = std::clamp<int64_t>(rows - begin, 0, round_limit_);
        count = here > 0 ? 1 : 0;
        owned.push_back(
            OwnedType::displaced(static_cast<int>(here), (at + begin) * row_bytes, row, purpose));
        type = owned.back().get();
      };
      for (int peer = 0; peer < size(); ++peer) {
        piece(send_rows[peer], send_at[peer], send_counts[peer], send_types[peer]);
        piece(recv_rows[peer], recv_at[peer], recv_counts[peer], recv_types[peer]);
      }
      check_mpi(MPI_Alltoallw(bytes_of(input), send_counts.data(), no_displacement.data(),
                              send_types.data(), bytes_of(output), recv_counts.data(),
                              no_displacement.data(), recv_types.data(), comm_),
                "MPI_Alltoallw", purpose);
    }
  }

  MPI_Comm comm_;
  int64_t round_limit_;
  OwnedType bfloat16_;
  MPI_Op sum_bfloat16_ = MPI_OP_NULL;
  MPI_Op max_bfloat16_ = MPI_OP_NULL;
};

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
