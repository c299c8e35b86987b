#pragma once

#include <ATen/core/Tensor.h>

#include "moe/token_context.h"

namespace switchyard {

/// Expert dropout of sigma-MoE (arXiv:2310.10837 section 4): whole experts are hidden
/// from the choice, each with probability `rate`, in training only; what a chosen
/// expert weighs stays as it is, without rescaling.
///
/// All tokens of a routing group miss the same experts: the draw is counter-based by
/// (layer, first sequence of the group, expert), so it does not know the layout. (The
/// authors' repository draws for each token.) Causal.
///
///   choice_TE  (T, E) scores to choose by, without gradient
///
/// Returns them with -inf for hidden experts.
at::Tensor hide_experts(const at::Tensor& choice_TE, double rate, int64_t layer,
                        const TokenContext& context);

}  // namespace switchyard
