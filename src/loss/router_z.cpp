#include "loss/router_z.h"

#include <ATen/ATen.h>

namespace switchyard {

at::Tensor router_z_sum(const at::Tensor& logits_TE, const at::Tensor& valid_T) {
  TORCH_CHECK(logits_TE.dim() == 2, "router_z_sum: logits_TE ", logits_TE.sizes());
  at::Tensor squared_T = at::logsumexp(logits_TE, /*dim=*/1).square();
  if (valid_T.defined()) squared_T = at::where(valid_T, squared_T, 0.0);
  return squared_T.sum();
}

}  // namespace switchyard
