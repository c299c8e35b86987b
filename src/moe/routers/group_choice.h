#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "moe/token_context.h"

namespace switchyard {

// What routers share that decide over a whole routing group at once. T tokens, E
// experts, K places per token, N tokens of a group that are not padding.

/// Ids (N) int64 of the tokens that are routed together, ascending, on `device`: one tensor for
/// each routing group with a token that is not padding, in order.
std::vector<at::Tensor> tokens_of_groups(int64_t tokens, const TokenContext& context,
                                         c10::Device device = at::kCPU);

/// ceil(N * factor / E), at least 1 and at most N; a factor is a decimal, so 0.56 *
/// 100 / 8 is 7.
int64_t tokens_per_expert(int64_t tokens, double factor, int64_t num_experts);

/// Chosen pairs as places of tokens.
struct Places {
  at::Tensor experts_TK;  // (T, K) int64: a token's chosen experts, best first, then others
  at::Tensor kept_TK;     // (T, K) bool: which are chosen
};

/// The pairs of chosen_TE (T, E) bool, at most K of a token, in the order of scores_TE
/// (T, E); equal scores go to the lower expert id. No expert twice in a row.
Places place_choices(const at::Tensor& chosen_TE, const at::Tensor& scores_TE, int64_t places);

}  // namespace switchyard
