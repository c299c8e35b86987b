#pragma once

#include <ATen/core/Tensor.h>

#include "loss/load_balancing.h"

namespace switchyard {

// T tokens, E experts, K experts per token, G routing groups.

/// What a router decided: a value, made by a pure function of hidden states,
/// the router's own weights and counter-based draws. What a router has not is undefined.
struct Routing {
  at::Tensor logits_TE;   // (T, E) float32, in the graph
  at::Tensor probs_TE;    // (T, E) float32, rows sum to 1, in the graph: for the losses
  at::Tensor experts_TK;  // (T, K) int64, best first, no expert twice where kept; K may be up to E
  at::Tensor weights_TK;  // (T, K) float32, in the graph: what each expert's output is scaled by
  at::Tensor kept_TK;     // (T, K) bool: what the router chose; false where it left a choice out
  bool normalize_after_drop = false;  // rescale the kept weights of a token to sum 1 after capacity
  at::Tensor reroute_TR;  // (T, R) int64: further choices, best first, for a token left without one

  // For the losses, in the graph.
  at::Tensor importance_TE;  // (T, E): gates whose sum is an expert's importance
  at::Tensor load_TE;        // (T, E): smooth probability of being chosen
  at::Tensor log_policy_T;   // (T): log probability of a sampled choice
  at::Tensor baseline;  // (1): loss that a sampled choice is measured against, without gradient
  at::Tensor regularizer_T;  // (T): the router's own penalty, of weight regularizer_coef
  double regularizer_coef = 0;

  // For the layer.
  at::Tensor value_scale_TK;  // (T, K): scales an output's value and not its gradient
  at::Tensor shared_T;        // (T), in the graph: scales the shared experts' output
  at::Tensor memory_TP;       // (T, P), in the graph: what the next MoE layer's router gets
};

/// Choices of which none is left out: (T, K) bool, true.
at::Tensor all_kept(const at::Tensor& experts_TK);

/// What each choice contributes once drops are known: weights_TK where kept, zero
/// elsewhere, rescaled to sum 1 when the router asks for it. In the graph.
at::Tensor kept_weights(const Routing& routing);

/// What one MoE layer reports of one micro-batch: a return value, so that nobody
/// keeps a global list. What is undefined in Routing is so here; the parts that losses
/// read stay in the graph.
struct RouterRecord {
  at::Tensor logits_TE, probs_TE;
  at::Tensor valid_T;    // (T) bool, or undefined: all
  at::Tensor domains_T;  // (T) int64, or undefined: unknown
  RoutingCounts counts;  // before drops, per routing group
  at::Tensor chosen_TK;  // (T, K) int64: what the router chose, before drops; -1: nothing
  int64_t tokens_per_sequence = 0;
  at::Tensor experts_TK;     // (T, K) int64
  at::Tensor kept_TK;        // (T, K) bool: after the router and capacity
  at::Tensor weights_TK;     // (T, K) float32, in the graph: kept_weights
  at::Tensor routed_pairs;   // () float64: chosen pairs, padding excluded
  at::Tensor dropped_pairs;  // () float64: of those, not sent to any expert
  at::Tensor importance_TE, load_TE, log_policy_T, baseline, regularizer_T;
  double regularizer_coef = 0;
  at::Tensor memory_TP;
  at::Tensor balance_coef_N;  // (N) float32: this layer's coefficients of moe.balance, if adaptive
};

}  // namespace switchyard
