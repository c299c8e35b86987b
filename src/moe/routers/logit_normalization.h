#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// Gating logit normalization, Skywork-MoE (arXiv:2406.06563 section 4.1):
///
///   z~ = lambda (z - mean z) / std z        over the E logits of a token
///
/// A larger lambda makes softmax(z~) sharper. The paper leaves open which standard
/// deviation is meant: the population's here, sqrt(var + 1e-10), so that equal logits
/// stay 0 with a finite gradient.
///
///   logits_TE  (T, E) float32 or float64
///   lambda     0: the logits as they are
///
/// Causal: a token's own logits alone. Differentiable in the logits.
at::Tensor normalize_logits(const at::Tensor& logits_TE, double lambda);

}  // namespace switchyard
