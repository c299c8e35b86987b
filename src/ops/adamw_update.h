#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// The scalars of one AdamW update (optim/adamw.h). `rest` is 1 - beta, taken in float64: in
/// float32 it would be off by 1.3e-5 of itself for 0.999.
struct AdamWFactors {
  float gradient_scale, keep, beta1, rest1, beta2, rest2, step_size, inverse_sqrt_correction2, eps;
};

/// Flat tensors of one length on one device, contiguous, float32 but for `rounded`.
struct AdamWTensors {
  at::Tensor weight, gradient, exp_avg, exp_avg_sq;
  at::Tensor rounded;  // gets the new weights in its dtype, bfloat16; undefined: none
};

/// In place, element by element, in float32:
///
///   g = gradient * gradient_scale
///   exp_avg    = beta1 exp_avg    + rest1 g
///   exp_avg_sq = beta2 exp_avg_sq + rest2 g^2
///   weight     = weight keep - step_size exp_avg / (sqrt(exp_avg_sq) inverse_sqrt_correction2 +
///   eps)
///
/// Local.
void adamw_update(const AdamWTensors& tensors, const AdamWFactors& factors);

}  // namespace switchyard
