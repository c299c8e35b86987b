#include "moe/drop_tokens.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "moe/capacity.h"
#include "moe/choices_per_token.h"
#include "moe/device_budget.h"

// T tokens, K experts per token.

namespace switchyard {
namespace {

using at::Tensor;

Tensor probs_of_choices(const Routing& routing) {
  return routing.probs_TE.detach().gather(/*dim=*/1, routing.experts_TK).to(at::kFloat);
}

void drop_over_slots(Routing& routing, const MoeConfig& moe, double factor, int64_t layer,
                     const TokenContext& scope) {
  const int64_t slots = expert_capacity(moe.capacity, factor, scope.tokens_per_group,
                                        moe.num_experts, choices_per_token(moe, scope.mode));
  const Priority priority =
      moe.router.type == "gshard" ? Priority::kChoice : parse_priority(moe.capacity.priority);
  const Tensor probs_TK = probs_of_choices(routing);
  if (!routing.reroute_TR.defined()) {
    drop_over_capacity(routing.experts_TK, probs_TK, moe.num_experts, slots, priority, layer, scope,
                       routing.kept_TK);
    return;
  }
  routing.experts_TK = routing.experts_TK.clone();  // the graph holds the old ones
  const Tensor rerouted_TK =
      drop_and_reroute(routing.reroute_TR, routing.experts_TK, probs_TK, moe.num_experts, slots,
                       priority, layer, scope, routing.kept_TK);
  routing.weights_TK = at::where(
      rerouted_TK, routing.probs_TE.gather(/*dim=*/1, routing.experts_TK), routing.weights_TK);
}

void drop_over_budgets(Routing& routing, const MoeConfig& moe, const TokenContext& scope) {
  CapacityConfig plain;
  plain.round = moe.capacity.round;
  plain.min = 0;
  const int64_t groups = moe.router.n_group;
  const int64_t slots = expert_capacity(plain, *moe.capacity.device_factor, scope.tokens_per_group,
                                        groups, choices_per_token(moe, scope.mode));
  drop_over_device_budget(routing.experts_TK, probs_of_choices(routing),
                          {moe.num_experts, groups, slots, moe.capacity.protected_fraction}, scope,
                          routing.kept_TK);
}

}  // namespace

void drop_tokens(Routing& routing, const MoeConfig& moe, int64_t layer,
                 const TokenContext& context) {
  const bool train = context.mode == Mode::kTrain;
  const auto& factor = train ? moe.capacity.factor : moe.capacity.eval_factor;
  TokenContext scope = context;
  if (moe.capacity.scope == "rank")
    scope.tokens_per_group = std::max<int64_t>(routing.experts_TK.size(0), 1);
  if (factor) drop_over_slots(routing, moe, *factor, layer, scope);
  if (train && moe.capacity.device_factor) drop_over_budgets(routing, moe, scope);
}

}  // namespace switchyard
