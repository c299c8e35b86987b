#include "moe/routers/sinkhorn_router.h"

#include <ATen/ATen.h>

#include "moe/routers/group_choice.h"
#include "moe/routers/sinkhorn_plan.h"
#include "moe/select_top_k.h"

// T tokens, E experts, K experts per token, N tokens of a routing group.

namespace switchyard {

using at::Tensor;

SinkhornRouter::SinkhornRouter(const RouterConfig& config, const RouterPlace& place)
    : iterations_(config.sinkhorn.iterations), place_(place) {}

std::vector<RouterWeight> SinkhornRouter::weights() const { return {gate_weight(place_)}; }

Routing SinkhornRouter::route(const Tensor& x_TD, const RouterTensors& tensors,
                              const TokenContext& context) const {
  Routing routing;
  routing.logits_TE = gate_logits(x_TD, tensors.weights[0]);
  routing.probs_TE = routing.logits_TE.softmax(/*dim=*/1);

  Tensor choice_TE = routing.logits_TE.detach();
  if (context.mode == Mode::kTrain) {
    choice_TE = choice_TE.clone();
    for (const Tensor& ids_N : tokens_of_groups(x_TD.size(0), context, x_TD.device())) {
      const Tensor logits_NE = choice_TE.index_select(0, ids_N);
      choice_TE.index_copy_(0, ids_N, sinkhorn_plan(logits_NE, iterations_));
    }
  }
  routing.experts_TK = select_top_k(choice_TE, place_.top_k);
  routing.weights_TK = routing.probs_TE.gather(/*dim=*/1, routing.experts_TK);
  routing.kept_TK = all_kept(routing.experts_TK);
  return routing;
}

}  // namespace switchyard
