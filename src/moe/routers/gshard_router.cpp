#include "moe/routers/gshard_router.h"

#include <ATen/ATen.h>

#include <limits>

#include "base/random.h"
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
  routing.kept_TK = at::ones(routing.experts_TK.sizes(), at::kBool);
  routing.kept_TK.select(1, 1).copy_(
      keep_second(routing.weights_TK.detach().select(1, 1), context));
  return routing;
}

Tensor GShardRouter::draws(const TokenContext& context, int64_t tokens, int64_t per_token) const {
  const RandomStream stream(context.seed, "gshard_second/" + std::to_string(place_.layer));
  Tensor u = at::empty({tokens, per_token}, at::kFloat);
  float* out = u.data_ptr<float>();
  const int64_t S = context.tokens_per_sequence;
  const int64_t* order = context.order_B.data_ptr<int64_t>();
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t i = 0; i < per_token; ++i) {
      out[t * per_token + i] = stream.uniform(t % S * per_token + i, order[t / S]);
    }
  }
  return u;
}

Tensor GShardRouter::choose_second(const Tensor& logits_TE, const Tensor& first_T,
                                   const TokenContext& context) const {
  Tensor others_TE = logits_TE;
  if (config_.second_expert_policy == "sampling" && context.mode == Mode::kTrain) {
    const Tensor u = draws(context, logits_TE.size(0), logits_TE.size(1)).clamp_min(1e-10F);
    others_TE = others_TE - (-u.log()).log();
  }
  others_TE = others_TE.scatter(1, first_T.unsqueeze(1), -std::numeric_limits<double>::infinity());
  return select_top_k(others_TE, 1).squeeze(1);
}

Tensor GShardRouter::keep_second(const Tensor& gate2_T, const TokenContext& context) const {
  const std::string& policy = config_.second_expert_policy;
  if (policy == "none") return at::zeros(gate2_T.sizes(), at::kBool);
  if (policy == "threshold") return gate2_T > config_.second_threshold;
  if (policy == "random" && context.mode == Mode::kTrain) {
    return 2 * gate2_T > draws(context, gate2_T.size(0), 1).squeeze(1);
  }
  return at::ones(gate2_T.sizes(), at::kBool);
}

}  // namespace switchyard
