#include "moe/routers/reinforce_router.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "moe/routers/draws.h"
#include "moe/routers/require_top_1.h"
#include "moe/select_top_k.h"

// T tokens, E experts, K = 1 expert per token.

namespace switchyard {

using at::Tensor;

ReinforceRouter::ReinforceRouter(const RouterConfig& config, const RouterPlace& place)
    : config_(config.reinforce), place_(place) {
  require_top_1(config.type, place.top_k);
}

std::vector<RouterWeight> ReinforceRouter::weights() const { return {gate_weight(place_)}; }

NamedState ReinforceRouter::initial_state() const {
  const double vocabulary = static_cast<double>(std::max<int64_t>(place_.vocab_size, 1));
  return {{"gate.baseline", at::full({1}, std::log(vocabulary), at::kFloat)}};
}

Routing ReinforceRouter::route(const Tensor& x_TD, const RouterTensors& tensors,
                               const TokenContext& context) const {
  Routing routing;
  routing.logits_TE = gate_logits(x_TD, tensors.weights[0]);
  routing.probs_TE = routing.logits_TE.softmax(/*dim=*/1);
  const bool train = context.mode == Mode::kTrain;
  const Tensor policy_TE = routing.probs_TE.detach();
  routing.experts_TK = train ? sample(policy_TE, context) : select_top_k(policy_TE, 1);
  routing.weights_TK = at::ones(routing.experts_TK.sizes(), routing.logits_TE.options());
  routing.kept_TK = all_kept(routing.experts_TK);
  if (train) {
    routing.log_policy_T =
        routing.logits_TE.log_softmax(/*dim=*/1).gather(1, routing.experts_TK).squeeze(1);
    routing.baseline = tensors.state[0];
  }
  return routing;
}

Tensor ReinforceRouter::sample(const Tensor& probs_TE, const TokenContext& context) const {
  const int64_t T = probs_TE.size(0), E = probs_TE.size(1);
  const Tensor u_T1 = uniform_draws(T, 1, "reinforce/" + std::to_string(place_.layer), context);
  const Tensor sums_TE = probs_TE.to(at::kDouble).cumsum(/*dim=*/1).contiguous();
  const Tensor mass_T1 = u_T1.to(at::kDouble) * sums_TE.narrow(/*dim=*/1, E - 1, 1);
  return at::searchsorted(sums_TE, mass_T1, /*out_int32=*/false, /*right=*/true).clamp_max(E - 1);
}

void ReinforceRouter::update_state(std::vector<Tensor>& state, const RouterStep& step) const {
  state[0].mul_(config_.baseline_decay).add_((1 - config_.baseline_decay) * step.loss);
}

}  // namespace switchyard
