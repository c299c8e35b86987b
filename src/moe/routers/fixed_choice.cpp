#include "moe/routers/fixed_choice.h"

#include <ATen/ATen.h>

namespace switchyard {

Routing fixed_choice(const at::Tensor& experts_TK, int64_t num_experts) {
  const int64_t T = experts_TK.size(0), K = experts_TK.size(1);
  const at::TensorOptions floats = experts_TK.options().dtype(at::kFloat);
  Routing routing;
  routing.experts_TK = experts_TK;
  routing.logits_TE = at::zeros({T, num_experts}, floats);
  routing.probs_TE = at::zeros({T, num_experts}, floats)
                         .scatter(/*dim=*/1, experts_TK, 1.0 / static_cast<double>(K));
  routing.weights_TK = at::ones({T, K}, floats);
  routing.kept_TK = all_kept(experts_TK);
  return routing;
}

}  // namespace switchyard
