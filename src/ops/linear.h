#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// y = x W^T + b over the last dimension: at::linear, whose gradient of W goes straight into
/// W.grad() where that is float32 (weight_gradient.h).
///
///   x (..., D), weight (F, D), bias (F) or undefined; one dtype. Returns (..., F).
/// Differentiable. Local.
at::Tensor linear_projection(const at::Tensor& x, const at::Tensor& weight,
                             const at::Tensor& bias = {});

}  // namespace switchyard
