#pragma once

#include <ATen/core/Tensor.h>

#include "config/run_config.h"
#include "moe/token_context.h"

namespace switchyard {

/// Which pairs go first when an expert is full.
enum class Priority { kPosition, kChoice, kProbability, kProbabilitySum, kRandom };

/// Slots of each expert for a group of `tokens`:
///   C = round(factor * tokens * (K if counts_k) / E), at least `min`, then up to
///   a multiple of `multiple_of`
/// Switch Transformers (arXiv:2101.03961 eq. 3) and GShard differ in rounding,
/// minimum and whether K counts: hence the knobs. The factor is a decimal: 0.56 * 100 / 8 is 7,
/// not a little more.
int64_t expert_capacity(const CapacityConfig& capacity, double factor, int64_t tokens,
                        int64_t num_experts, int64_t top_k);

/// Marks what fits: kept_TK (T, K) bool is narrowed, group by group.
///
///   experts_TK   (T, K) int64
///   probs_TK     (T, K) float32, the router's probability of each choice: kProbability
///                visits tokens by that of their first, kProbabilitySum by the sum of
///                those that are kept
///   capacity     slots of each expert in each group
///
/// kPosition takes pairs token by token, a token's choices in order: it never
/// looks at later tokens. kChoice takes all first choices, then all second ones
/// (GShard). kProbability is Batch Prioritised Routing (arXiv:2106.05974 section
/// 4): as kChoice with tokens in descending first probability, ties by position;
/// kProbabilitySum is its variant that scores a token by the sum of its K.
/// kRandom takes tokens in a counter-based random order. A pair that is not kept
/// takes no slot. Local.
void drop_over_capacity(const at::Tensor& experts_TK, const at::Tensor& probs_TK,
                        int64_t num_experts, int64_t capacity, Priority priority, int64_t layer,
                        const TokenContext& context, at::Tensor& kept_TK);

/// The same, and no token left behind (arXiv:2101.03961 appendix A): a token that found no
/// slot for any of its choices takes the first of its further ones that has a free
/// slot. kPosition and kRandom settle that before they come to the next token, so
/// kPosition stays causal; the others after all choices of all tokens, one rank of
/// further choices after the other, as mesh-tensorflow does.
///
///   reroute_TR   (T, R) int64, best first; negative: none
///   experts_TK   changed: the new expert takes the place of the token's first choice
///
/// Returns the pairs that have a new expert, (T, K) bool. Local.
at::Tensor drop_and_reroute(const at::Tensor& reroute_TR, at::Tensor& experts_TK,
                            const at::Tensor& probs_TK, int64_t num_experts, int64_t capacity,
                            Priority priority, int64_t layer, const TokenContext& context,
                            at::Tensor& kept_TK);

/// From `moe.capacity.priority`.
Priority parse_priority(const std::string& word);

}  // namespace switchyard
