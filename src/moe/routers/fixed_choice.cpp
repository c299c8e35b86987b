#include "moe/routers/fixed_choice.h"

#include <ATen/ATen.h>

namespace switchyard {

Routing fixed_choice(const at::Tensor& experts_TK, int64_t num_experts) {
  const int64_t T = experts_TK.size(0), K = experts_TK.size(1);
  Routing routing;
  routing.experts_TK = experts_TK;
  routing.logits_TE = at::zeros({T, num_experts}, at::kFloat);
  routing.probs_TE = at::zeros({T, num_experts}, at::kFloat)
                         .scatter(/*dim=*/1, experts_TK, 1.0 / static_cast<double>(K));
  routing.weights_TK = at::ones({T, K}, at::kFloat);
  routing.kept_TK = at::ones({T, K}, at::kBool);
  return routing;
}

}  // namespace switchyard
