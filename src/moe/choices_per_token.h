#pragma once

#include <cstdint>

#include "config/run_config.h"
#include "moe/token_context.h"

namespace switchyard {

/// Experts that a token is meant for, which capacity, balance losses and FLOPs are
/// relative to: moe.top_k, but with router `dense_training` moe.num_experts in training
/// and, unless it takes the top_k best there, in evaluation.
int64_t choices_per_token(const MoeConfig& moe, Mode mode);

}  // namespace switchyard
