#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "distributed/communicator.h"
#include "ops/permute.h"

namespace switchyard {

// T tokens on this rank, K experts per token, D model width, S token copies sent,
// R token copies received, the rows of this rank's experts, P ranks
// of the expert group, L experts on each.

/// Where token copies went, so that `combine` can bring them back.
struct Dispatched {
  at::Tensor rows_RD;  // (R, D) sorted by local expert, then sender, then token; see `send`
  std::vector<int64_t> rows_L;     // rows of each local expert
  RowMap map;                      // pairs <-> send buffer
  std::vector<int64_t> send_rows;  // to each rank of the expert group
  std::vector<int64_t> recv_rows;  // from each
  at::Tensor to_expert_order_R;    // (R) int64: arrived row of each; undefined with one rank
  at::Tensor to_arrival_order_R;   // (R) int64: the inverse
};

/// Sends token copies to the ranks of their experts and the results back: the
/// two all-to-alls of expert parallelism. Stateless but for its group.
class Dispatcher {
 public:
  /// num_experts is a multiple of the group's size; expert e lives on rank
  /// e / (num_experts / size). `group` must outlive the dispatcher and the graph.
  Dispatcher(Communicator& group, int64_t num_experts);

  /// Sorts the kept pairs by expert (stable: token order within an expert),
  /// exchanges counts once and rows once. Collective over the group, with zero
  /// tokens too. Differentiable in x.
  ///
  ///   x_TD        (T, D) compute dtype
  ///   experts_TK  (T, K) int64
  ///   kept_TK     (T, K) bool
  Dispatched dispatch(const at::Tensor& x_TD, const at::Tensor& experts_TK,
                      const at::Tensor& kept_TK) const;

  /// The same in two steps. `order` sorts and exchanges counts: no rows yet.
  Dispatched order(const at::Tensor& experts_TK, const at::Tensor& kept_TK) const;
  /// Exchanges the rows (R, D) of x_TD, as often as they are wanted.
  at::Tensor send(const at::Tensor& x_TD, const Dispatched& sent) const;

  /// Sends a number along with each pair: ids_TK (T, K) int64, of the pairs that
  /// `dispatch` sent, arrive as (R) int64 in the order of rows_RD.
  /// Collective over the group.
  at::Tensor send_ids(const at::Tensor& ids_TK, const Dispatched& sent) const;

  /// out[t] = sum over k of weights[t, k] * y of pair (t, k), dropped pairs adding
  /// nothing. Collective over the group. Differentiable in y and weights. value_scale_TK, if
  /// defined, multiplies the weights in the value and not in the gradient.
  at::Tensor combine(const at::Tensor& y_RD, const Dispatched& sent, const at::Tensor& weights_TK,
                     const at::Tensor& value_scale_TK = {}) const;

 private:
  void exchange_counts(const std::vector<int64_t>& rows_E, Dispatched& sent) const;

  Communicator& group_;
  int64_t num_experts_;
};

}  // namespace switchyard
