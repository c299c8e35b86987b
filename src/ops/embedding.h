#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// weight[token] for each token: at::embedding, whose gradient of the weight is added row by row,
/// in the order of the tokens, straight into weight.grad() where that is float32
/// (weight_gradient.h).
///
///   weight_VD (V, D) float32, bfloat16 or float64; tokens (...) int64 in [0, V)
///   Returns (..., D). Differentiable in the weight. Local.
at::Tensor embed_tokens(const at::Tensor& weight_VD, const at::Tensor& tokens);

}  // namespace switchyard
