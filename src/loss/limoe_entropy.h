#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

// The entropy losses of LIMoE, arXiv:2206.02770, each over the tokens of one
// modality: here the tokens of one domain, or all.

/// Local entropy, mean_t H(p_t): 0 for confident routers, ln E for uniform ones.
///
///   sums_G    (G) sum over the group's tokens of H(p_t). The gradient flows here.
///   tokens_G  (G) those tokens
///
/// Returns (G); 0 for a group without tokens. Local.
at::Tensor local_entropy(const at::Tensor& sums_G, const at::Tensor& tokens_G);

/// Global entropy, -H(mean_t p_t); with a threshold tau > 0, max(0, tau - H(mean_t p_t)), so
/// that nothing pushes beyond a use of e^tau experts (a "soft minimum").
///
///   sums_GE   (G, E) sum over the group's tokens of p_t. The gradient flows here.
///   tokens_G  (G)    those tokens
///
/// Returns (G): -ln E for uniform means without a threshold; 0 with a zero gradient at or
/// above it, and for a group without tokens. Local.
at::Tensor global_entropy(const at::Tensor& sums_GE, const at::Tensor& tokens_G, double threshold);

}  // namespace switchyard
