#include "moe/routers/gshard_router.h"

#include <ATen/ATen.h>

#include <limits>

#include "moe/routers/draws.h"
#include "moe/routers/jitter.h"
#include "moe/select_top_k.h"

namespace switchyard {

using at::Tensor;

GShardRouter::GShardRouter(const RouterConfig& config, const RouterPlace& place)
    : config_(config), place_(place) {}

std::vector<RouterWeight> GShardRouter::weights() const { return {gate_weight(place_)}; }

Routing GShardRouter::route(const Tensor& x_TD, const RouterTensors& tensors,
                            const TokenContext& context) const {
  Routing routing;
  const Tensor input_TD = jitter(to_router_dtype(x_TD), config_.jitter_eps, place_.layer, context);
  routing.logits_TE = gate_logits(input_TD, tensors.weights[0]);
  routing.probs_TE = routing.logits_TE.softmax(/*dim=*/1);

  const Tensor first_T = select_top_k(routing.probs_TE.detach(), 1).squeeze(1);
  const Tensor second_T = choose_second(routing.logits_TE.detach(), first_T, context);
  routing.experts_TK = at::stack({first_T, second_T}, /*dim=*/1);

  routing.weights_TK = routing.probs_TE.gather(/*dim=*/1, routing.experts_TK);
  const bool before_drop = config_.normalize_gate == "before_drop";
  if (before_drop) {
    constexpr float kSmallest = std::numeric_limits<float>::epsilon();
    routing.weights_TK = routing.weights_TK /
                         routing.weights_TK.sum(/*dim=*/1, /*keepdim=*/true).clamp_min(kSmallest);
  }
  routing.normalize_after_drop = !before_drop;
  routing.kept_TK = all_kept(routing.experts_TK);
  routing.kept_TK.select(1, 1).copy_(
      keep_second(routing.weights_TK.detach().select(1, 1), context));
  return routing;
}

std::string GShardRouter::draws_name() const {
  return "gshard_second/" + std::to_string(place_.layer);
}

Tensor GShardRouter::choose_second(const Tensor& logits_TE, const Tensor& first_T,
                                   const TokenContext& context) const {
  Tensor others_TE = logits_TE;
  if (config_.second_expert_policy == "sampling" && context.mode == Mode::kTrain) {
    others_TE =
        others_TE + gumbel_draws(logits_TE.size(0), logits_TE.size(1), draws_name(), context);
  }
  others_TE = others_TE.scatter(1, first_T.unsqueeze(1), -std::numeric_limits<double>::infinity());
  return select_top_k(others_TE, 1).squeeze(1);
}

Tensor GShardRouter::keep_second(const Tensor& gate2_T, const TokenContext& context) const {
  const std::string& policy = config_.second_expert_policy;
  if (policy == "none") return at::zeros(gate2_T.sizes(), gate2_T.options().dtype(at::kBool));
  if (policy == "threshold") return gate2_T > config_.second_threshold;
  if (policy == "random" && context.mode == Mode::kTrain) {
    return 2 * gate2_T > uniform_draws(gate2_T.size(0), 1, draws_name(), context).squeeze(1);
  }
  return at::ones(gate2_T.sizes(), gate2_T.options().dtype(at::kBool));
}

}  // namespace switchyard
