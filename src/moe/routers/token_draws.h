#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "moe/token_context.h"

namespace switchyard {

/// Uniform draws in [0, 1), `per_token` for each of T tokens: (T, per_token) float32.
/// A draw is a function of (seed, purpose, sequence's place in the run's order,
/// position in it, column), so it does not know the layout.
at::Tensor token_draws(const std::string& purpose, int64_t tokens, int64_t per_token,
                       const TokenContext& context);

}  // namespace switchyard
