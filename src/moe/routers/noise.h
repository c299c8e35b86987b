#pragma once

#include <ATen/core/Tensor.h>

#include "moe/token_context.h"

namespace switchyard {

/// Adds normal noise of standard deviation `std` to a router's logits, in training
/// only: z + eps, eps ~ N(0, std^2), V-MoE (arXiv:2106.05974 section 2.2, std = 1 / E
/// there). Counter-based by (layer, sequence, position, expert); causal.
///
///   logits_TE  (T, E) float32 or float64
///   std        0: the logits as they are
at::Tensor add_noise(const at::Tensor& logits_TE, double std, int64_t layer,
                     const TokenContext& context);

}  // namespace switchyard
