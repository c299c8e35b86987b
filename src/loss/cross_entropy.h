#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// The label of a target that is not counted.
inline constexpr int64_t kIgnoredTarget = -100;

/// Cross-entropy of next-token prediction, summed over tokens:
///   - sum_t log softmax(logits_t)[target_t]      in nats, float32
///
///   logits_TV   (T, V) any compute dtype; the softmax is taken in float32
///   targets_T   (T) int64 in [0, V), or kIgnoredTarget
///
/// Returns a float32 scalar (0 for no tokens, still in the graph). The caller
/// divides by the target tokens of the whole optimizer step. Local.
at::Tensor cross_entropy_sum(const at::Tensor& logits_TV, const at::Tensor& targets_T);

/// The same for each token: (T) in float32, 0 where the target is not counted. Local.
at::Tensor cross_entropy_of_tokens(const at::Tensor& logits_TV, const at::Tensor& targets_T);

}  // namespace switchyard
