#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "moe/token_context.h"

namespace switchyard {

/// A budget of token copies for each of `groups` groups of consecutive experts
/// together (the paper's devices), in each routing group.
struct DeviceBudget {
  int64_t num_experts = 0, groups = 1;
  int64_t slots = 0;                // of each group of experts
  double protected_fraction = 0.0;  // share of the sequences that are never dropped from
};

/// Device-level token dropping, DeepSeek-V2 (arXiv:2405.04434 section 2.1.4): over a
/// group's budget, its pairs of the lowest probability are dropped, of equals the
/// later ones first. The pairs of protected sequences stay whatever the budget, and
/// count towards it. Which sequences are protected is a counter-based draw by (seed,
/// sequence): the same in every layer and on any layout. The paper drops in training
/// alone; so does the caller.
///
///   experts_TK  (T, K) int64
///   probs_TK    (T, K) float32
///   kept_TK     (T, K) bool, narrowed; a pair that is not kept takes nothing of a budget
///
/// Looks at later tokens. Local.
void drop_over_device_budget(const at::Tensor& experts_TK, const at::Tensor& probs_TK,
                             const DeviceBudget& budget, const TokenContext& context,
                             at::Tensor& kept_TK);

/// Whether the sequence at place `order` of the run is protected.
bool is_protected(int64_t order, double fraction, uint64_t seed);

}  // namespace switchyard
