#pragma once

#include <c10/macros/Macros.h>

#include <cmath>

#include "ops/adamw_update.h"

namespace switchyard::cuda {

// What kernels compute for one element, for the host as well: its tests compare it with the ops.

C10_HOST_DEVICE inline float sigmoid(float x) { return 1.0F / (1.0F + std::exp(-x)); }

/// silu(gate) * up
C10_HOST_DEVICE inline float swiglu(float gate, float up) { return gate * sigmoid(gate) * up; }

/// The gradients of gate and up from that of swiglu.
C10_HOST_DEVICE inline void swiglu_gradient(float gate, float up, float dy, float& dgate,
                                            float& dup) {
  const float s = sigmoid(gate), silu = gate * s;
  dgate = dy * up * (s + silu * (1.0F - s));
  dup = dy * silu;
}

/// (a, b) turned by an angle of this cosine and sine.
C10_HOST_DEVICE inline void turn(float a, float b, float cosine, float sine, float& x, float& y) {
  x = a * cosine - b * sine;
  y = b * cosine + a * sine;
}

/// dx of one element, with n = x * rstd, g = dy * weight and the row's mean of g * n.
C10_HOST_DEVICE inline float norm_gradient(float g, float n, float mean, float rstd) {
  return rstd * (g - n * mean);
}

/// One element of adamw_update.
C10_HOST_DEVICE inline void adamw(const AdamWFactors& f, float gradient, float& weight,
                                  float& exp_avg, float& exp_avg_sq) {
  const float g = gradient * f.gradient_scale;
  exp_avg = f.beta1 * exp_avg + f.rest1 * g;
  exp_avg_sq = f.beta2 * exp_avg_sq + f.rest2 * g * g;
  const float denominator = std::sqrt(exp_avg_sq) * f.inverse_sqrt_correction2 + f.eps;
  weight = weight * f.keep - f.step_size * exp_avg / denominator;
}

}  // namespace switchyard::cuda
