#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// Root mean square normalisation (Zhang and Sennrich, arXiv:1910.07467 eq. 4):
///   y = x / sqrt(mean(x^2) + eps) * weight      over the last dimension D
///
///   x       (..., D) float32, bfloat16 or float64
///   weight  (D), x's dtype
///
/// Statistics and products in float32 (float64 for float64), one rounding at the
/// end. Differentiable in both. Local.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

}  // namespace switchyard
