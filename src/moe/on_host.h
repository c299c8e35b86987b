#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// What a decision that goes from one token to the next, and is so made on the host, makes of a
/// tensor on any device: `decide` of a copy of x on the host, and its result on x's device. On the
/// host x is the copy. From a GPU the host waits for what leads to x.
template <typename Decide>
at::Tensor decided_on_host(const at::Tensor& x, const Decide& decide) {
  const at::Tensor decision = decide(x.cpu());
  return decision.to(x.device());
}

}  // namespace switchyard
