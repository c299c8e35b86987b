#include "loss/squared_variation.h"

#include <ATen/ATen.h>

#include <limits>

namespace switchyard {

at::Tensor squared_variation(const at::Tensor& sums_GE) {
  TORCH_CHECK(sums_GE.dim() == 2, "squared_variation: sums_GE ", sums_GE.sizes());
  constexpr double kSmallest = std::numeric_limits<float>::min();
  const at::Tensor mean_G1 = sums_GE.mean(/*dim=*/1, /*keepdim=*/true);
  const at::Tensor variance_G = (sums_GE - mean_G1).square().mean(/*dim=*/1);
  return variance_G / mean_G1.squeeze(1).square().clamp_min(kSmallest);
}

}  // namespace switchyard
