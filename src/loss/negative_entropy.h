#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// Entropy regularization of sigma-MoE, arXiv:2310.10837, of each group:
///
///   L = -H(mean_t p_t) = sum_e P_e ln P_e,   p_t = softmax(z_t),  P = mean_t p_t
///
/// also where the router's scores are sigmoids. The paper's mean is over the whole batch.
///
///   sums_GE   (G, E) sum over the group's tokens of p_t. The gradient flows here.
///   tokens_G  (G)    tokens of the group
///
/// Returns (G): -ln E for uniform means, 0 when collapsed and for a group without tokens.
/// Local.
at::Tensor negative_entropy(const at::Tensor& sums_GE, const at::Tensor& tokens_G);

}  // namespace switchyard
