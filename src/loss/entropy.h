#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// Entropy of each row in nats, H = -sum_e p_e ln p_e: 0 for one-hot, ln E for uniform.
///
///   p_RE  (R, E), rows sum to 1, or are zero. The gradient flows here, and is finite at 0.
///
/// Returns (R), dtype of p_RE. Local.
at::Tensor entropy(const at::Tensor& p_RE);

/// Means from sums over tokens: sums_GE (G, E) over tokens_G (G), zero for a group
/// without tokens. In the graph of sums_GE.
at::Tensor mean_of_tokens(const at::Tensor& sums_GE, const at::Tensor& tokens_G);

}  // namespace switchyard
