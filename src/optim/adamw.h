#pragma once

#include <cstdint>

#include "optim/parameter_store.h"

namespace switchyard {

/// AdamW (Loshchilov and Hutter, arXiv:1711.05101, algorithm 2), in float32, as
/// torch.optim.AdamW computes it:
///
///   w <- w (1 - lr * weight_decay)
///   m <- beta1 m + (1 - beta1) g,   v <- beta2 v + (1 - beta2) g^2
///   w <- w - lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)
struct AdamW {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1;

  /// One update of the state intervals of `store` from its reduced gradients,
  /// scaled by `gradient_scale` (the clip coefficient). `step` counts from 1,
  /// updates that were skipped not counted. Parts' own rules (lr_scale, decay,
  /// frozen) apply. Writes the bfloat16 weights beside their master. Local; follow with
  /// ParameterStore::gather_weights.
  void update(ParameterStore& store, int64_t step, double lr, double gradient_scale) const;
};

}  // namespace switchyard
