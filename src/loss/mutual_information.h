#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// Mutual information loss of DS-MoE, arXiv:2404.05567, of each group:
///
///   L = -H(mean_t p_t) + mean_t H(p_t)
///
/// minus the mutual information of tokens and experts: balanced over the tokens, confident
/// for each.
///
///   sums_GE       (G, E) sum over the group's tokens of p_t. The gradient flows here
///   entropy_G     (G)    sum over them of H(p_t), and here.
///   tokens_G      (G)    tokens of the group
///
/// Returns (G), in [-ln E, 0]: -ln E for balanced one-hot probabilities, 0 when all tokens
/// have the same ones, uniform or collapsed, and for a group without tokens. Local.
at::Tensor mutual_information(const at::Tensor& sums_GE, const at::Tensor& entropy_G,
                              const at::Tensor& tokens_G);

}  // namespace switchyard
