#include "moe/routing.h"

#include <ATen/ATen.h>

namespace switchyard {

at::Tensor all_kept(const at::Tensor& experts_TK) {
  return at::ones(experts_TK.sizes(), experts_TK.options().dtype(at::kBool));
}

at::Tensor kept_weights(const Routing& routing) {
  const at::Tensor weights_TK = routing.weights_TK * routing.kept_TK;
  if (!routing.normalize_after_drop) return weights_TK;
  return weights_TK / weights_TK.sum(/*dim=*/1, /*keepdim=*/true).clamp_min(1e-20);
}

}  // namespace switchyard
