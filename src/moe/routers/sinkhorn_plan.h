#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace switchyard {

/// The plan closest to exp(z) (in KL divergence) with rows that sum to 1 and columns
/// that sum to T / E, by Sinkhorn's iteration in the logarithmic domain. From u = 0:
///
///   v_e = log(T / E) - logsumexp_t(z_te + u_t)
///   u_t = - logsumexp_e(z_te + v_e)
///   plan_te = exp(z_te + u_t + v_e)
///
/// Rows sum to 1 after any number of iterations, columns to T / E in the limit.
///
///   logits_TE  (T, E) float32 or float64
///
/// Returns (T, E) of the same dtype, without gradient.
at::Tensor sinkhorn_plan(const at::Tensor& logits_TE, int64_t iterations);

}  // namespace switchyard
