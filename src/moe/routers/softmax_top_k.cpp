#include "moe/routers/softmax_top_k.h"

#include <ATen/ATen.h>

#include "moe/select_top_k.h"

namespace switchyard {

Routing softmax_top_k(const at::Tensor& logits_TE, const RouterConfig& router, int64_t top_k) {
  Routing routing;
  routing.logits_TE = logits_TE;
  routing.probs_TE = logits_TE.softmax(/*dim=*/1);
  routing.experts_TK = select_top_k(routing.probs_TE.detach(), top_k);
  routing.weights_TK = routing.probs_TE.gather(/*dim=*/1, routing.experts_TK);
  if (router.normalize) {
    routing.weights_TK =
        routing.weights_TK / (routing.weights_TK.sum(/*dim=*/1, /*keepdim=*/true) + 1e-20);
  }
  if (router.scaling_factor != 1.0) routing.weights_TK = routing.weights_TK * router.scaling_factor;
  routing.kept_TK = all_kept(routing.experts_TK);
  return routing;
}

}  // namespace switchyard
