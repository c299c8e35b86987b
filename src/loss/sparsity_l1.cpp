#include "loss/sparsity_l1.h"

#include <ATen/ATen.h>

#include <limits>

namespace switchyard {

at::Tensor sparsity_l1(const at::Tensor& probs_TE) {
  TORCH_CHECK(probs_TE.dim() == 2, "sparsity_l1: probs_TE ", probs_TE.sizes());
  constexpr double kSmallest = std::numeric_limits<float>::min();
  const at::Tensor squares_T = probs_TE.square().sum(/*dim=*/1);
  const at::Tensor norm_T = squares_T.clamp_min(kSmallest).sqrt();
  return at::where(squares_T > 0, probs_TE.abs().sum(/*dim=*/1) / norm_T, 0.0);
}

}  // namespace switchyard
