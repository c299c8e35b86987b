#include "moe/routers/logit_normalization.h"

#include <ATen/ATen.h>

namespace switchyard {

at::Tensor normalize_logits(const at::Tensor& logits_TE, double lambda) {
  if (lambda == 0.0) return logits_TE;
  constexpr double kSmallest = 1e-10;
  const at::Tensor centred_TE = logits_TE - logits_TE.mean(/*dim=*/1, /*keepdim=*/true);
  const at::Tensor variance_T1 = centred_TE.square().mean(/*dim=*/1, /*keepdim=*/true);
  return lambda * centred_TE * (variance_T1 + kSmallest).rsqrt();
}

}  // namespace switchyard
