#include "moe/routers/dense_training_router.h"

#include <ATen/ATen.h>

#include "moe/select_top_k.h"

// T tokens, E experts, K experts per token.

namespace switchyard {

DenseTrainingRouter::DenseTrainingRouter(const RouterConfig& config, const RouterPlace& place)
    : config_(config.dense_training), place_(place) {}

std::vector<RouterWeight> DenseTrainingRouter::weights() const { return {gate_weight(place_)}; }

Routing DenseTrainingRouter::route(const at::Tensor& x_TD, const RouterTensors& tensors,
                                   const TokenContext& context) const {
  const std::string inference = context.mode == Mode::kTrain ? "all" : config_.inference;
  Routing routing;
  routing.logits_TE = gate_logits(x_TD, tensors.weights[0]);
  routing.probs_TE = routing.logits_TE.softmax(/*dim=*/1);
  routing.experts_TK = select_top_k(routing.probs_TE.detach(),
                                    inference == "top_k" ? place_.top_k : place_.num_experts);
  routing.weights_TK = routing.probs_TE.gather(/*dim=*/1, routing.experts_TK);
  routing.kept_TK = inference == "threshold" ? routing.weights_TK.detach() > config_.threshold
                                             : all_kept(routing.experts_TK);
  return routing;
}

}  // namespace switchyard
