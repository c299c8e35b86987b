#pragma once

#include <ATen/core/Tensor.h>

#include "loss/load_balancing.h"

namespace switchyard {

// T tokens, E experts, K experts per token, G routing groups.

/// What a router decided: a value, made by a pure function of hidden states,
/// the router's own weights and counter-based draws.
struct Routing {
  at::Tensor logits_TE;   // (T, E) float32, in the graph
  at::Tensor probs_TE;    // (T, E) float32, rows sum to 1, in the graph: for the losses
  at::Tensor experts_TK;  // (T, K) int64, best first, no expert twice
  at::Tensor weights_TK;  // (T, K) float32, in the graph: what each expert's output is scaled by
  at::Tensor kept_TK;     // (T, K) bool: false where the router itself left a choice out
  bool normalize_after_drop = false;  // rescale the kept weights of a token to sum 1 after capacity
};

/// What each choice contributes once drops are known: weights_TK where kept, zero
/// elsewhere, rescaled to sum 1 when the router asks for it. In the graph.
at::Tensor kept_weights(const Routing& routing);

/// What one MoE layer reports of one micro-batch: a return value, so that nobody
/// keeps a global list. logits and probs stay in the graph for the losses.
struct RouterRecord {
  at::Tensor logits_TE, probs_TE;
  at::Tensor valid_T;         // (T) bool, or undefined: all
  RoutingCounts counts;       // before drops, per routing group
  at::Tensor experts_TK;      // (T, K) int64
  at::Tensor kept_TK;         // (T, K) bool: after the router and capacity
  at::Tensor weights_TK;      // (T, K) float32, in the graph: kept_weights
  int64_t routed_pairs = 0;   // K * tokens, padding excluded
  int64_t dropped_pairs = 0;  // of those, not sent to any expert
};

}  // namespace switchyard
