#pragma once

#include <ATen/core/Tensor.h>

#include "moe/token_context.h"

namespace switchyard {

/// Multiplies hidden states by U(1 - eps, 1 + eps), Switch Transformers'
/// router-input jitter (arXiv:2101.03961 section 2.4): on the router's branch
/// only, in training only. The draw of (sequence, position, dimension, layer) is
/// counter-based, so it does not know the layout.
///
///   x_TD  (T, D) float32 or float64
at::Tensor jitter(const at::Tensor& x_TD, double eps, int64_t layer, const TokenContext& context);

}  // namespace switchyard
