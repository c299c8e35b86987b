#include "moe/routers/base_router.h"

#include <ATen/ATen.h>

#include "moe/on_host.h"
#include "moe/routers/balanced_assignment.h"
#include "moe/routers/group_choice.h"
#include "moe/routers/require_top_1.h"
#include "moe/select_top_k.h"

// T tokens, E experts, K = 1, N tokens of a routing group.

namespace switchyard {

using at::Tensor;

BaseRouter::BaseRouter(const RouterConfig& config, const RouterPlace& place)
    : epsilon_(config.base.epsilon), place_(place) {
  require_top_1(config.type, place.top_k);
}

std::vector<RouterWeight> BaseRouter::weights() const {
  RouterWeight gate = gate_weight(place_);
  gate.init = {Init::Type::kOrthogonal, 0.1, {}};
  return {gate};
}

Routing BaseRouter::route(const Tensor& x_TD, const RouterTensors& tensors,
                          const TokenContext& context) const {
  Routing routing;
  routing.logits_TE = gate_logits(x_TD, tensors.weights[0]);
  routing.probs_TE = routing.logits_TE.softmax(/*dim=*/1);

  const Tensor scores_TE = routing.logits_TE.detach();
  routing.experts_TK =
      context.mode == Mode::kTrain
          ? decided_on_host(scores_TE,
                            [&](const Tensor& scores) { return assigned(scores, context); })
          : select_top_k(scores_TE, 1);
  routing.weights_TK = routing.logits_TE.gather(/*dim=*/1, routing.experts_TK).sigmoid();
  routing.kept_TK = all_kept(routing.experts_TK);
  return routing;
}

Tensor BaseRouter::assigned(const Tensor& scores_TE, const TokenContext& context) const {
  Tensor experts_TK = select_top_k(scores_TE, 1);
  for (const Tensor& ids_N : tokens_of_groups(scores_TE.size(0), context)) {
    const Tensor expert_N = balanced_assignment(scores_TE.index_select(0, ids_N), epsilon_);
    experts_TK.index_copy_(0, ids_N, expert_N.unsqueeze(1));
  }
  return experts_TK;
}

}  // namespace switchyard
