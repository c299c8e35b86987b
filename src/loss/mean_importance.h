#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// Mean importance loss of SpeechMoE, arXiv:2105.03036, of each group:
///
///   L = E sum_e P_e^2,   P = mean_t p_t
///
///   sums_GE   (G, E) sum over the group's tokens of p_t. The gradient flows here.
///   tokens_G  (G)    tokens of the group
///
/// Returns (G): 1 at balance, E when collapsed, 0 for a group without tokens. Local.
at::Tensor mean_importance(const at::Tensor& sums_GE, const at::Tensor& tokens_G);

}  // namespace switchyard
