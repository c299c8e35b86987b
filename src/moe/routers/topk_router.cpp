#include "moe/routers/topk_router.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "moe/routers/exploration.h"
#include "moe/routers/hide_experts.h"
#include "moe/routers/jitter.h"
#include "moe/routers/logit_normalization.h"
#include "moe/routers/noise.h"
#include "moe/routers/smooth_load.h"
#include "moe/select_top_k.h"

// T tokens, E experts, K experts per token, N expert groups of M experts.

namespace switchyard {

using at::Tensor;

TopKRouter::TopKRouter(const RouterConfig& config, const RouterPlace& place)
    : config_(config), place_(place) {
  if (config_.type == "switch") {
    config_.normalize = false;
  } else {
    config_.exploration = "argmax";
  }
}

std::vector<RouterWeight> TopKRouter::weights() const { return {gate_weight(place_)}; }

NamedState TopKRouter::initial_state() const {
  if (!config_.selection_bias) return {};
  return {{"gate.e_score_correction_bias", at::zeros({place_.num_experts}, at::kFloat)}};
}

Routing TopKRouter::route(const Tensor& x_TD, const RouterTensors& tensors,
                          const TokenContext& context) const {
  Routing routing;
  routing.logits_TE = normalize_logits(gate_logits(router_input(x_TD, context), tensors.weights[0]),
                                       config_.logit_normalization);
  const Tensor noisy_TE = add_noise(routing.logits_TE, config_.noise_std, place_.layer, context);
  const Tensor scores_TE = scores(noisy_TE);
  routing.probs_TE = probabilities(scores_TE);
  choose(choice_scores(scores_TE.detach(), tensors, context), routing);
  routing.weights_TK = weights_of(scores_TE, routing);
  set_loss_gates(noisy_TE, routing, context);
  return routing;
}

Tensor TopKRouter::router_input(const Tensor& x_TD, const TokenContext& context) const {
  const Tensor jittered_TD =
      jitter(to_router_dtype(x_TD), config_.jitter_eps, place_.layer, context);
  return explore_input(jittered_TD, config_, place_.layer, context);
}

Tensor TopKRouter::scores(const Tensor& logits_TE) const {
  return config_.score == "sigmoid" ? logits_TE.sigmoid() : logits_TE.softmax(/*dim=*/1);
}

Tensor TopKRouter::probabilities(const Tensor& scores_TE) const {
  if (config_.score != "sigmoid") return scores_TE;
  return scores_TE / (scores_TE.sum(/*dim=*/1, /*keepdim=*/true) + 1e-20);
}

Tensor TopKRouter::choice_scores(const Tensor& scores_TE, const RouterTensors& tensors,
                                 const TokenContext& context) const {
  Tensor choice_TE = explore_choice(scores_TE, config_, place_.layer, context);
  if (config_.selection_bias) choice_TE = choice_TE + tensors.state[0];
  return limit_to_groups(hide_experts(choice_TE, config_.expert_dropout, place_.layer, context));
}

Tensor TopKRouter::limit_to_groups(const Tensor& choice_TE) const {
  const int64_t T = choice_TE.size(0), N = config_.n_group;
  if (N <= 1 || T == 0) return choice_TE;
  const Tensor grouped_TNM = choice_TE.view({T, N, -1});
  const Tensor score_TN = config_.group_score == "max"
                              ? grouped_TNM.amax(/*dim=*/2)
                              : std::get<0>(grouped_TNM.topk(2, /*dim=*/2)).sum(/*dim=*/2);
  const Tensor chosen_groups = select_top_k(score_TN, config_.topk_group);
  const Tensor allowed_TN =
      at::zeros({T, N}, choice_TE.options().dtype(at::kBool)).scatter_(1, chosen_groups, true);
  return at::where(allowed_TN.unsqueeze(2), grouped_TNM, -std::numeric_limits<float>::infinity())
      .view_as(choice_TE);
}

void TopKRouter::choose(const Tensor& choice_TE, Routing& routing) const {
  const int64_t K = place_.top_k,
                wanted = std::min(K + config_.reroute_choices, place_.num_experts);
  const Tensor ids = select_top_k(choice_TE, wanted);
  const Tensor open = choice_TE.gather(/*dim=*/1, ids) != -std::numeric_limits<double>::infinity();
  routing.experts_TK = ids.narrow(/*dim=*/1, 0, K).contiguous();
  routing.kept_TK = open.narrow(/*dim=*/1, 0, K).contiguous();
  if (wanted == K) return;
  routing.reroute_TR = at::where(open, ids, -1).narrow(/*dim=*/1, K, wanted - K).contiguous();
}

Tensor TopKRouter::weights_of(const Tensor& scores_TE, const Routing& routing) const {
  Tensor weights_TK = scores_TE.gather(/*dim=*/1, routing.experts_TK);
  if (config_.expert_dropout >
      0) {  // capacity will change kept_TK, and the gradient needs this one
    weights_TK = at::where(routing.kept_TK.clone(), weights_TK, 0.0);
  }
  if (config_.normalize) {
    weights_TK = weights_TK / (weights_TK.sum(/*dim=*/1, /*keepdim=*/true) + 1e-20);
  }
  return config_.scaling_factor == 1.0 ? weights_TK : weights_TK * config_.scaling_factor;
}

void TopKRouter::set_loss_gates(const Tensor& noisy_TE, Routing& routing,
                                const TokenContext& context) const {
  routing.importance_TE = routing.probs_TE;
  if (config_.noise_std == 0.0) return;
  if (context.mode != Mode::kTrain) {
    routing.load_TE = hard_load(routing.experts_TK, noisy_TE);
    return;
  }
  routing.importance_TE = probabilities(scores(routing.logits_TE));
  routing.load_TE =
      load_against_kth(routing.logits_TE, noisy_TE,
                       at::scalar_tensor(config_.noise_std, noisy_TE.options()), place_.top_k);
}

void TopKRouter::update_state(std::vector<Tensor>& state, const RouterStep& step) const {
  if (config_.selection_bias) {
    update_selection_bias(state[0], step.counts_E, config_.bias_update_rate);
  }
}

void update_selection_bias(Tensor& bias_E, const Tensor& counts_E, double rate) {
  bias_E.add_((counts_E.mean() - counts_E).sign().to(bias_E.options()), rate);
}

}  // namespace switchyard
