#include "loss/cross_entropy.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

using at::Tensor;

Tensor cross_entropy(const Tensor& logits_TV, const Tensor& targets_T,
                     at::Reduction::Reduction reduction) {
  TORCH_CHECK(
      logits_TV.dim() == 2 && targets_T.dim() == 1 && logits_TV.size(0) == targets_T.size(0),
      "cross_entropy: logits_TV ", logits_TV.sizes(), ", targets_T ", targets_T.sizes());
  const at::ScalarType dtype = logits_TV.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return at::cross_entropy_loss(logits_TV.to(dtype), targets_T, /*weight=*/{}, reduction,
                                kIgnoredTarget);
}

}  // namespace

Tensor cross_entropy_sum(const Tensor& logits_TV, const Tensor& targets_T) {
  if (logits_TV.size(0) == 0) return logits_TV.to(at::kFloat).sum();
  return cross_entropy(logits_TV, targets_T, at::Reduction::Sum);
}

Tensor cross_entropy_of_tokens(const Tensor& logits_TV, const Tensor& targets_T) {
  if (logits_TV.size(0) == 0) return logits_TV.to(at::kFloat).sum(/*dim=*/1);
  return cross_entropy(logits_TV, targets_T, at::Reduction::None);
}

}  // namespace switchyard
