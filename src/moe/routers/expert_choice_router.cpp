#include "moe/routers/expert_choice_router.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "moe/on_host.h"
#include "moe/routers/capped_choice.h"
#include "moe/routers/group_choice.h"

// T tokens, E experts, K places per token, N tokens of a routing group.

namespace switchyard {

using at::Tensor;

ExpertChoiceRouter::ExpertChoiceRouter(const RouterConfig& config, const RouterPlace& place)
    : factor_(config.expert_choice.capacity_factor.value_or(static_cast<double>(place.top_k))),
      per_token_(std::min(config.expert_choice.max_experts_per_token.value_or(place.num_experts),
                          place.num_experts)),
      place_(place) {}

std::vector<RouterWeight> ExpertChoiceRouter::weights() const { return {gate_weight(place_)}; }

Routing ExpertChoiceRouter::route(const Tensor& x_TD, const RouterTensors& tensors,
                                  const TokenContext& context) const {
  Routing routing;
  routing.logits_TE = gate_logits(x_TD, tensors.weights[0]);
  routing.probs_TE = routing.logits_TE.softmax(/*dim=*/1);

  const Tensor scores_TE = routing.probs_TE.detach();
  const Tensor chosen_TE = decided_on_host(
      scores_TE, [&](const Tensor& scores) { return choices_of_experts(scores, context); });
  const Places places = place_choices(chosen_TE, scores_TE, per_token_);
  routing.experts_TK = places.experts_TK;
  routing.kept_TK = places.kept_TK;
  routing.weights_TK = routing.probs_TE.gather(/*dim=*/1, routing.experts_TK);
  return routing;
}

Tensor ExpertChoiceRouter::choices_of_experts(const Tensor& scores_TE,
                                              const TokenContext& context) const {
  Tensor chosen_TE = at::zeros(scores_TE.sizes(), at::kBool);
  for (const Tensor& ids_N : tokens_of_groups(scores_TE.size(0), context)) {
    const int64_t capacity = tokens_per_expert(ids_N.numel(), factor_, place_.num_experts);
    const Tensor scores_NE = scores_TE.index_select(0, ids_N);
    chosen_TE.index_copy_(0, ids_N, capped_choice(scores_NE, capacity, per_token_));
  }
  return chosen_TE;
}

}  // namespace switchyard
