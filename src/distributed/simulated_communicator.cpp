#include "distributed/simulated_communicator.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <set>
#include <utility>

#include "base/error.h"

namespace switchyard {
namespace {

using at::Tensor;
using Counts = std::vector<int64_t>;

class SimulatedCommunicator final : public Communicator {
 public:
  SimulatedCommunicator(const std::string& name, const Members& members, int rank,
                        int ranks_per_host, TrafficLog& log)
      : Communicator(rank, members.count, name),
        members_(members),
        ranks_per_host_(ranks_per_host),
        log_(log) {}

  void all_reduce(Tensor& x, ReduceOp op, const char* purpose) override {
    const Collective call(*this, "all-reduce", purpose, bytes_in(x));
    check_contract(x);
    const int64_t piece = (x.numel() + size() - 1) / size();
    count_ring("all-reduce", purpose, 2 * (size() - 1), piece * x.element_size());
    if (op == ReduceOp::kSum) x.mul_(size());
  }

  void reduce_scatter(const Tensor& input, Tensor& output, const char* purpose) override {
    const Collective call(*this, "reduce-scatter", purpose, bytes_in(input));
    check_contract(input, output);
    const int64_t piece = output.numel();
    TORCH_CHECK(input.numel() == piece * size(), "reduce_scatter: input must hold ", size(),
                " pieces of ", piece, " elements");
    count_ring("reduce-scatter", purpose, size() - 1, bytes_in(output));
    sum_into(output, input, rank() * piece);
  }

  void reduce_scatter_uneven(const Tensor& input, const Counts& counts, Tensor& output,
                             const char* purpose) override {
    const Collective call(*this, "reduce-scatter", purpose, bytes_in(input));
    check_contract(input, output);
    const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    TORCH_CHECK(static_cast<int>(counts.size()) == size() && total == input.numel() &&
                    counts[rank()] == output.numel(),
                "reduce_scatter: ", counts.size(), " pieces of ", total, " elements in all for ",
                input.numel(), " elements over ", size(), " ranks");
    Traffic& traffic = log_.of(name(), "reduce-scatter", purpose);
    ++traffic.calls;
    for (int peer = 0; peer < size(); ++peer) {
      if (peer == rank() || counts[peer] == 0) continue;
      send(traffic, next_rank(), counts[peer] * input.element_size());
    }
    sum_into(output, input, std::accumulate(counts.begin(), counts.begin() + rank(), int64_t{0}));
  }

  void all_gather(const Tensor& input, Tensor& output, const char* purpose) override {
    const Collective call(*this, "all-gather", purpose, bytes_in(input));
    check_contract(input, output);
    const int64_t piece = input.numel();
    TORCH_CHECK(output.numel() == piece * size(), "all_gather: output must hold ", size(),
                " pieces of ", piece, " elements");
    count_ring("all-gather", purpose, size() - 1, bytes_in(input));
    const Tensor pieces = output.view({size(), piece});
    if (piece == 0 || pieces[rank()].data_ptr() == input.data_ptr()) return;
    pieces.copy_(input.view({1, piece}));
  }

  void broadcast(Tensor& x, int root, const char* purpose) override {
    const Collective call(*this, "broadcast", purpose, bytes_in(x));
    check_contract(x);
    TORCH_CHECK(root >= 0 && root < size(), "broadcast: no rank ", root, " of ", size());
    Traffic& traffic = log_.of(name(), "broadcast", purpose);
    ++traffic.calls;
    if (next_rank() != root) send(traffic, next_rank(), bytes_in(x));
  }

  std::unique_ptr<UnderWay> start_all_to_all(const Tensor& input, const RowBlocks& send_blocks,
                                             Tensor& output, const RowBlocks& recv,
                                             const char* purpose) override {
    check_contract(input, output);
    check_blocks(input, send_blocks, output, recv);
    const Counts to = send_blocks.by_rank(size()), from = recv.by_rank(size());
    const FlightRecord::Rows rows{to, from};
    const int64_t row_bytes = input.element_size() * c10::multiply_integers(input.sizes().slice(1));
    const Collective call(*this, "all-to-all", purpose, send_blocks.total() * row_bytes, &rows);
    check_counts(send_blocks, recv, purpose);
    count_blocks(send_blocks, row_bytes, purpose);
    fill(output, recv, input, send_blocks);
    return std::make_unique<Over>();
  }

  void barrier(const char* purpose) override {
    const Collective call(*this, "barrier", purpose, 0);
    ++log_.of(name(), "barrier", purpose).calls;
  }

 private:
  static int64_t bytes_in(const Tensor& x) { return static_cast<int64_t>(x.nbytes()); }

  static void check_contract(const Tensor& x) {
    constexpr std::array kKnown = {at::kFloat, at::kBFloat16, at::kInt,
                                   at::kLong,  at::kByte,     at::kDouble};
    TORCH_CHECK(x.is_contiguous() && std::ranges::count(kKnown, x.scalar_type()) == 1,
                "simulated communicator: needs a contiguous tensor of a dtype that travels, got ",
                x.dtype());
  }

  static void check_contract(const Tensor& input, const Tensor& output) {
    check_contract(input);
    check_contract(output);
    TORCH_CHECK(input.dtype() == output.dtype() && input.device() == output.device(),
                "simulated communicator: ", input.dtype(), " on ", input.device(), " into ",
                output.dtype(), " on ", output.device());
  }

  int next_rank() const { return (rank() + 1) % size(); }
  int host_of(int member) const { return members_.at(member) / ranks_per_host_; }

  void send(Traffic& traffic, int to, int64_t bytes) const {
    ++traffic.messages;
    (host_of(to) == host_of(rank()) ? traffic.bytes_in_host : traffic.bytes_across) += bytes;
  }

  void count_ring(const char* op, const char* purpose, int64_t messages, int64_t bytes) {
    Traffic& traffic = log_.of(name(), op, purpose);
    ++traffic.calls;
    for (int64_t i = 0; i < messages; ++i) send(traffic, next_rank(), bytes);
  }

  void count_blocks(const RowBlocks& blocks, int64_t row_bytes, const char* purpose) {
    Traffic& traffic = log_.of(name(), "all-to-all", purpose);
    ++traffic.calls;
    const size_t per_rank = blocks.rows.size() / size();
    for (size_t i = 0; i < blocks.rows.size(); ++i) {
      const int peer = static_cast<int>(i / per_rank);
      if (peer != rank() && blocks.rows[i] > 0) send(traffic, peer, blocks.rows[i] * row_bytes);
    }
  }

  /// `output` may be a piece of `input`.
  void sum_into(Tensor& output, const Tensor& input, int64_t begin) const {
    const Tensor own = input.view({-1}).narrow(0, begin, output.numel());
    if (own.data_ptr() != output.data_ptr() || own.is_meta()) output.copy_(own.view_as(output));
    output.mul_(size());
  }

  /// Others send what this rank sends to itself, or return what an earlier exchange brought them.
  void check_counts(const RowBlocks& send_blocks, const RowBlocks& recv, const char* purpose) {
    const auto per_rank = static_cast<int64_t>(send_blocks.rows.size()) / size();
    const bool is_return = exchanged_.contains({recv.rows, send_blocks.rows});
    for (int64_t i = 0; i < per_rank * size() && !is_return; ++i) {
      const int64_t sent = send_blocks.rows[rank() * per_rank + i % per_rank];
      if (recv.rows[i] == sent) continue;
      throw CommError(std::string("all-to-all, ") + purpose + ": rank " +
                      std::to_string(i / per_rank) + " of " + name() + " sends " +
                      std::to_string(sent) + " rows to rank " + std::to_string(rank()) +
                      ", which expects " + std::to_string(recv.rows[i]));
    }
    if (!is_return) exchanged_.emplace(send_blocks.rows, recv.rows);
  }

  void fill(const Tensor& output, const RowBlocks& recv, const Tensor& input,
            const RowBlocks& send_blocks) const {
    if (output.is_meta()) return;
    const size_t per_rank = recv.rows.size() / size();
    for (size_t i = 0; i < recv.rows.size(); ++i) {
      const Tensor place = output.narrow(0, recv.begin[i], recv.rows[i]);
      const size_t own = rank() * per_rank + i % per_rank;
      if (recv.rows[i] == send_blocks.rows[own]) {
        place.copy_(input.narrow(0, send_blocks.begin[own], recv.rows[i]));
      } else if (input.size(0) > 0) {
        place.copy_(input.index_select(0, at::arange(recv.rows[i]).remainder(input.size(0))));
      } else {
        place.zero_();
      }
    }
  }

  const Members members_;
  const int ranks_per_host_;
  TrafficLog& log_;
  std::set<std::pair<Counts, Counts>> exchanged_;  // rows sent and received
};

}  // namespace

Traffic& TrafficLog::of(const std::string& group, const char* op, const char* purpose) {
  for (Traffic& traffic : all_) {
    if (traffic.group == group && traffic.op == op && traffic.purpose == purpose) return traffic;
  }
  return all_.emplace_back(Traffic{.group = group, .op = op, .purpose = purpose});
}

int64_t TrafficLog::bytes_for(std::string_view purpose) const {
  int64_t bytes = 0;
  for (const Traffic& traffic : all_) {
    if (traffic.purpose.starts_with(purpose)) bytes += traffic.bytes();
  }
  return bytes;
}

std::unique_ptr<Communicator> make_simulated_communicator(const std::string& name,
                                                          const Members& members, int rank,
                                                          int ranks_per_host, TrafficLog& log) {
  return std::make_unique<SimulatedCommunicator>(name, members, rank, ranks_per_host, log);
}

Mesh make_simulated_mesh(const ParallelConfig& parallel, int rank, int world_size,
                         int ranks_per_host, TrafficLog& log) {
  const MeshPlace place = place_in_mesh(parallel, rank, world_size);
  const auto group = [&](const char* name, const Members& members, int own) {
    return make_simulated_communicator(name, members, own, ranks_per_host, log);
  };
  return {group("world", place.world, rank), group("expert parallel", place.expert, place.ep),
          group("expert data parallel", place.data, place.edp), parallel.overlap_chunks};
}

}  // namespace switchyard
