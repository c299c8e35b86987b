#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// Sparsity L1 loss of SpeechMoE, arXiv:2105.03036, of each token: || p_t / ||p_t||_2 ||_1.
///
///   probs_TE  (T, E), at least 0. The gradient flows here.
///
/// Returns (T): 1 for one-hot, sqrt(E) for uniform; 0 with a zero gradient for a row of zeros.
/// The loss is the mean over tokens. Local.
at::Tensor sparsity_l1(const at::Tensor& probs_TE);

}  // namespace switchyard
