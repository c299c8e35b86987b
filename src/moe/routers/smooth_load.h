#pragma once

#include <ATen/core/Tensor.h>

// T tokens, E experts, K of them chosen per token.

namespace switchyard {

/// The probability that a token chooses an expert if the noise on that expert's
/// logit were drawn anew and the other noisy logits stayed: what makes an expert's
/// load, a count, differentiable. Summed over tokens it is the load of the
/// load losses.
///
///   clean_TE  (T, E) logits before the noise, z
///   noisy_TE  (T, E) after it, H
///   sigma     standard deviation of the noise: (T, E), or a scalar tensor
///
/// Return (T, E), in the graph of all three. Causal.

/// Phi((z_i - threshold_i) / sigma_i), the threshold being the k-th largest of the
/// *other* noisy logits: H's (k+1)-th where i is chosen, else its k-th. Shazeer et al.,
/// arXiv:1701.06538 appendix A eqs. 8-10. Needs k < E.
at::Tensor load_against_others(const at::Tensor& clean_TE, const at::Tensor& noisy_TE,
                               const at::Tensor& sigma, int64_t top_k);

/// Phi((z_i - threshold) / sigma), one threshold for all: the k-th largest noisy
/// logit. V-MoE, arXiv:2106.05974 appendix A.
at::Tensor load_against_kth(const at::Tensor& clean_TE, const at::Tensor& noisy_TE,
                            const at::Tensor& sigma, int64_t top_k);

/// 1 where chosen: what both tend to as sigma does to 0. Without gradient.
///
///   experts_TK  (T, K) int64
at::Tensor hard_load(const at::Tensor& experts_TK, const at::Tensor& like_TE);

}  // namespace switchyard
