#pragma once

#include <ATen/core/Tensor.h>

#include "config/run_config.h"
#include "moe/token_context.h"

namespace switchyard {

/// The exploration policies of Switch Transformers (arXiv:2101.03961 appendix C), in
/// training only; `argmax` is neither:
///
///   sample         the expert is drawn from the probabilities, by Gumbel-max
///   input_dropout  the router's input passes dropout of rate `router.input_dropout`
///
/// Counter-based by (layer, sequence, position); causal.

/// x_TD (T, D) float32 or float64, with dropout under `input_dropout`.
at::Tensor explore_input(const at::Tensor& x_TD, const RouterConfig& config, int64_t layer,
                         const TokenContext& context);

/// The scores to choose by, (T, E): log p + Gumbel noise under `sample`, else p.
at::Tensor explore_choice(const at::Tensor& probs_TE, const RouterConfig& config, int64_t layer,
                          const TokenContext& context);

}  // namespace switchyard
