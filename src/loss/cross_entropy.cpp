#include "loss/cross_entropy.h"

#include <ATen/ATen.h>

namespace switchyard {

at::Tensor cross_entropy_sum(const at::Tensor& logits_TV, const at::Tensor& targets_T) {
  TORCH_CHECK(
      logits_TV.dim() == 2 && targets_T.dim() == 1 && logits_TV.size(0) == targets_T.size(0),
      "cross_entropy_sum: logits_TV ", logits_TV.sizes(), ", targets_T ", targets_T.sizes());
  if (logits_TV.size(0) == 0) return logits_TV.to(at::kFloat).sum();
  const at::ScalarType dtype = logits_TV.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return at::cross_entropy_loss(logits_TV.to(dtype), targets_T, /*weight=*/{}, at::Reduction::Sum,
                                kIgnoredTarget);
}

}  // namespace switchyard
