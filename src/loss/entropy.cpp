#include "loss/entropy.h"

#include <ATen/ATen.h>

#include <limits>

namespace switchyard {

at::Tensor entropy(const at::Tensor& p_RE) {
  TORCH_CHECK(p_RE.dim() == 2, "entropy: p_RE ", p_RE.sizes());
  constexpr double kSmallest = std::numeric_limits<float>::min();
  return -(p_RE * p_RE.clamp_min(kSmallest).log()).sum(/*dim=*/1);
}

at::Tensor mean_of_tokens(const at::Tensor& sums_GE, const at::Tensor& tokens_G) {
  TORCH_CHECK(sums_GE.dim() == 2 && tokens_G.dim() == 1 && sums_GE.size(0) == tokens_G.size(0),
              "mean_of_tokens: sums_GE ", sums_GE.sizes(), ", tokens_G ", tokens_G.sizes());
  return sums_GE / tokens_G.unsqueeze(1).clamp_min(1.0);
}

}  // namespace switchyard
