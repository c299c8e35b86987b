#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "distributed/communicator.h"
#include "ops/chunked_exchange.h"
#include "ops/permute.h"

namespace switchyard {

// T tokens on this rank, K experts per token, D model width, S token copies sent,
// R token copies received, the rows of this rank's experts, P ranks
// of the expert group, L experts on each.

/// A part of the exchange: the rows of some of this rank's experts, one after another.
struct DispatchedChunk {
  std::vector<int64_t> rows_L;  // rows of each local expert, 0 for those of other chunks
  int64_t first_row = 0;        // of all rows
  ChunkBlocks places;           // in the send buffer, and in the chunk's own rows
};

/// Where token copies go, and come back from: (R, D) rows sorted by local expert, then sender,
/// then token.
struct Dispatched {
  std::vector<int64_t> rows_L;  // rows of each local expert
  RowMap map;                   // pairs <-> send buffer
  // With several ranks, (P, L) blocks each:
  RowBlocks send;                       // in the send buffer
  RowBlocks recv;                       // in the rows of this rank's experts
  std::vector<DispatchedChunk> chunks;  // none: the exchange goes in one
};

/// What experts make of rows (R, D) sorted by local expert, rows_L of each, the first of which
/// is row `first_row` of all.
using ExpertRows = std::function<at::Tensor(const at::Tensor& rows_RD,
                                            const std::vector<int64_t>& rows_L, int64_t first_row)>;

/// Sends token copies to the ranks of their experts and the results back: the
/// two all-to-alls of expert parallelism. Stateless but for its group.
///
/// With overlap_chunks > 1 each all-to-all goes in so many parts, or as many as a rank has
/// experts, part c being the rows of local experts [c L / n, (c + 1) L / n): while experts
/// compute on one, the next are on their way, and results on theirs; so in backward. An expert's
/// rows stay together and in order, so it computes what it would with one part.
class Dispatcher {
 public:
  /// num_experts is a multiple of the group's size; expert e lives on rank
  /// e / (num_experts / size). `group` must outlive the dispatcher and the graph.
  Dispatcher(Communicator& group, int64_t num_experts, int64_t overlap_chunks = 1);

  /// Sorts the kept pairs by expert (stable: token order within an expert) and exchanges counts,
  /// once: rows then go as often as they are wanted. The counts are what the host waits for, where
  /// the tensors are on a GPU, once. Collective over the group, with zero tokens too.
  ///
  ///   experts_TK  (T, K) int64
  ///   kept_TK     (T, K) bool
  Dispatched order(const at::Tensor& experts_TK, const at::Tensor& kept_TK) const;

  /// The rows (R, D) of x_TD (T, D), from their places and into their places. Collective over the
  /// group. Differentiable in x.
  at::Tensor send(const at::Tensor& x_TD, const Dispatched& sent) const;

  /// Sends a number along with each pair: ids_TK (T, K) int64, of the pairs that `order` kept,
  /// arrive as (R) int64 in the order of the rows that `send` sends. Collective over the group.
  at::Tensor send_ids(const at::Tensor& ids_TK, const Dispatched& sent) const;

  /// Brings rows y_RD (R, D) back: out (T, D), out[t] = sum over k of weights[t, k] * y of pair
  /// (t, k), weights_TK (T, K) float32, dropped pairs adding nothing. Collective over the group.
  /// Differentiable in y and weights. value_scale_TK, if defined, multiplies the weights in the
  /// value and not in the gradient.
  at::Tensor combine(const at::Tensor& y_RD, const Dispatched& sent, const at::Tensor& weights_TK,
                     const at::Tensor& value_scale_TK = {}) const;

  /// `combine` of what `experts` make of what `send` sends; in several chunks, if there are,
  /// which are the same to the bit. `experts` is then called once for each. `beside`, if there is,
  /// is called once while rows are on their way to the experts: its backward runs while their
  /// gradients are on their way back. Collective over the group, forward and backward, on every
  /// rank in the same order.
  at::Tensor apply(const ExpertRows& experts, const at::Tensor& x_TD, const Dispatched& sent,
                   const at::Tensor& weights_TK, const at::Tensor& value_scale_TK = {},
                   const std::function<void()>& beside = {}) const;

 private:
  void exchange_counts(const at::Tensor& rows_E, Dispatched& sent) const;
  void cut(Dispatched& sent) const;
  at::Tensor returned_in_chunks(const ExpertRows& experts, const at::Tensor& send_SD,
                                const std::vector<DispatchedChunk>& chunks,
                                const std::function<void()>& beside) const;

  Communicator& group_;
  int64_t num_experts_;
  int64_t chunks_;
};

}  // namespace switchyard
