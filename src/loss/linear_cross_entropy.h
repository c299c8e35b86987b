#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

struct LinearCrossEntropy {
  at::Tensor sum;       // float32 scalar, in the graph
  at::Tensor losses_T;  // (T) float32 without gradient, 0 where the target is not counted
};

/// cross_entropy_sum(hidden head^T, targets), some tokens at a time, so that the logits of all
/// tokens are never in memory: their gradient is made, and used, while they are at hand.
///
///   hidden_TD  (T, D) float32 or bfloat16, D even
///   head_VD    (V, D) same dtype
///   targets_T  (T) int64 in [0, V), or kIgnoredTarget
///
/// Differentiable in hidden and head; keeps their gradients, (T, D) and (V, D) in float32, for
/// backward. On the host, other dtypes and machines without blocked products compose it of all
/// logits. Local. Throws c10::Error on a target that is not in the vocabulary; on a device that
/// ends the device's work instead, and the host learns of it later.
LinearCrossEntropy linear_cross_entropy(const at::Tensor& hidden_TD, const at::Tensor& head_VD,
                                        const at::Tensor& targets_T);

/// Tokens whose logits are in memory at once, for a vocabulary of this size.
int64_t logits_at_once(int64_t vocabulary, c10::Device device = at::kCPU);

}  // namespace switchyard
