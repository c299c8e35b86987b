#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "moe/routing.h"

namespace switchyard {

/// REINFORCE with a baseline (Williams, Machine Learning 8, 1992) for routers that sample:
///
///   - sum_t (r_t - r_0) log pi_t / step_tokens,    r_t = - loss_t,  r_0 = - baseline
///
/// averaged over the layers whose records have a log_policy_T (T). Its gradient is that of the
/// expected loss, as far as a token's own loss depends on its own choice. Reward
/// and baseline have no gradient.
///
///   losses_T     (T) each token's own cross-entropy, 0 where it is not counted
///   counted_T    (T) bool: tokens with a target
///   step_tokens  target tokens of the whole optimizer step, over all ranks
///
/// Returns a float32 scalar: a sum over this micro-batch, so the layout does not matter.
/// Zero where no layer samples. Local.
at::Tensor router_objective(const std::vector<RouterRecord>& records, const at::Tensor& losses_T,
                            const at::Tensor& counted_T, double step_tokens);

}  // namespace switchyard
