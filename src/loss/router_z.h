#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// Router z-loss of ST-MoE, arXiv:2202.08906 eq. 5, as a sum over tokens:
///   sum_t (log sum_e exp z_{t,e})^2
///
///   logits_TE  (T, E) float32
///   valid_T    (T) bool, or undefined: padding is left out where false
///
/// (ln E)^2 per token for zero logits. Returns a float32 scalar; the caller
/// divides by the routed tokens of the whole step. Local.
at::Tensor router_z_sum(const at::Tensor& logits_TE, const at::Tensor& valid_T);

}  // namespace switchyard
