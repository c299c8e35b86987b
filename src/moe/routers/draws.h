#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "moe/token_context.h"

// T tokens, N draws for each.

namespace switchyard {

/// Draws of a router, counter-based: draw n of a token is a function of the run's
/// seed, `purpose` (with the layer in it), the token's sequence in the run's order,
/// its position and n, so it does not know the layout. All (T, N) float32, on
/// context.device: drawn on the host, where GPUs compute too.

/// Uniform in [0, 1).
at::Tensor uniform_draws(int64_t tokens, int64_t per_token, const std::string& purpose,
                         const TokenContext& context);

/// Standard normal.
at::Tensor normal_draws(int64_t tokens, int64_t per_token, const std::string& purpose,
                        const TokenContext& context);

/// Standard Gumbel: the largest of log p + g is a draw from p (Gumbel-max).
at::Tensor gumbel_draws(int64_t tokens, int64_t per_token, const std::string& purpose,
                        const TokenContext& context);

}  // namespace switchyard
