#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// Squared coefficient of variation of each group's row,
///
///   CV^2(v) = Var(v) / Mean(v)^2   with the population variance, (1/E) sum_e (v_e - Mean(v))^2
///
/// of Shazeer et al., arXiv:1701.06538 eqs. 6-7 (v = importance, the sum over tokens of the
/// gates) and eqs. 10-11 (v = load, the sum of the smooth probabilities of being chosen), and
/// of V-MoE, arXiv:2106.05974 appendix A. The released torch versions take the unbiased
/// variance, which is E/(E-1) times this one; V-MoE's the population variance.
///
///   sums_GE  (G, E), at least 0. The gradient flows here.
///
/// Returns (G): 0 when all experts have the same, E - 1 when one has all, 0 for a row of
/// zeros. The scale of a row does not matter. Local.
at::Tensor squared_variation(const at::Tensor& sums_GE);

}  // namespace switchyard
