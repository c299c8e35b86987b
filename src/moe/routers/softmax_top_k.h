#pragma once

#include <ATen/core/Tensor.h>

#include "config/run_config.h"
#include "moe/routing.h"

namespace switchyard {

/// The usual end of a router whose logits are made in an unusual way:
///
///   p = softmax(z),  chosen = TopK(p),  w_i = p_i [/ sum of the chosen p] * scaling_factor
///
/// normalised as `router.normalize` says. Equal p go to the lower expert id.
///
///   logits_TE  (T, E) float32 or float64
Routing softmax_top_k(const at::Tensor& logits_TE, const RouterConfig& router, int64_t top_k);

}  // namespace switchyard
