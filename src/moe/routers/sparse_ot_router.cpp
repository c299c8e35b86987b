#include "moe/routers/sparse_ot_router.h"

#include <ATen/ATen.h>

#include "moe/routers/group_choice.h"
#include "moe/routers/sparse_transport.h"

// T tokens, E experts, K places per token, N tokens of a routing group.

namespace switchyard {

using at::Tensor;

SparseOtRouter::SparseOtRouter(const RouterConfig& config, const RouterPlace& place)
    : config_(config.sparse_ot), place_(place) {}

std::vector<RouterWeight> SparseOtRouter::weights() const { return {gate_weight(place_)}; }

Routing SparseOtRouter::route(const Tensor& x_TD, const RouterTensors& tensors,
                              const TokenContext& context) const {
  Routing routing;
  routing.logits_TE = gate_logits(x_TD, tensors.weights[0]);
  routing.probs_TE = routing.logits_TE.softmax(/*dim=*/1);

  const Tensor plan_TE = plan(routing.probs_TE, context);
  const int64_t places = config_.limit == "token" ? place_.top_k : place_.num_experts;
  const Places chosen = place_choices(plan_TE.detach() > 0, plan_TE, places);
  routing.experts_TK = chosen.experts_TK;
  routing.kept_TK = chosen.kept_TK;
  const Tensor weights_TE = config_.weights == "plan" ? plan_TE : routing.probs_TE;
  routing.weights_TK = weights_TE.gather(/*dim=*/1, routing.experts_TK);
  return routing;
}

Tensor SparseOtRouter::plan(const Tensor& probs_TE, const TokenContext& context) const {
  const bool by_token = config_.limit == "token";
  TransportOptions options{config_.gamma, config_.iterations, config_.lr,
                           by_token ? TransportLimit::kToken : TransportLimit::kExpert,
                           place_.top_k};
  Tensor plan_TE = at::zeros_like(probs_TE);
  for (const Tensor& ids_N : tokens_of_groups(probs_TE.size(0), context, probs_TE.device())) {
    if (!by_token) {
      options.nonzeros =
          tokens_per_expert(ids_N.numel(), static_cast<double>(place_.top_k), place_.num_experts);
    }
    plan_TE =
        plan_TE.index_copy(0, ids_N, sparse_transport(probs_TE.index_select(0, ids_N), options));
  }
  return plan_TE;
}

}  // namespace switchyard
