#include "moe/routers/topk_router.h"

#include <ATen/ATen.h>

#include <limits>

#include "moe/routers/jitter.h"
#include "moe/select_top_k.h"

// T tokens, E experts, K experts per token, N expert groups of M experts.

namespace switchyard {

using at::Tensor;

TopKRouter::TopKRouter(const RouterConfig& config, const RouterPlace& place)
    : config_(config), place_(place) {
  if (config_.type == "switch") config_.normalize = false;
}

std::vector<RouterWeight> TopKRouter::weights() const { return {gate_weight(place_)}; }

NamedState TopKRouter::initial_state() const {
  if (!config_.selection_bias) return {};
  return {{"gate.e_score_correction_bias", at::zeros({place_.num_experts}, at::kFloat)}};
}

Routing TopKRouter::route(const Tensor& x_TD, const RouterTensors& tensors,
                          const TokenContext& context) const {
  Routing routing;
  const Tensor input_TD = jitter(to_router_dtype(x_TD), config_.jitter_eps, place_.layer, context);
  routing.logits_TE = gate_logits(input_TD, tensors.weights[0]);

  const bool sigmoid = config_.score == "sigmoid";
  const Tensor scores_TE =
      sigmoid ? routing.logits_TE.sigmoid() : routing.logits_TE.softmax(/*dim=*/1);
  routing.probs_TE =
      sigmoid ? scores_TE / (scores_TE.sum(/*dim=*/1, /*keepdim=*/true) + 1e-20) : scores_TE;

  Tensor choice_TE = scores_TE.detach();
  if (config_.selection_bias) choice_TE = choice_TE + tensors.state[0];
  routing.experts_TK = select_top_k(limit_to_groups(choice_TE), place_.top_k);

  routing.weights_TK = scores_TE.gather(/*dim=*/1, routing.experts_TK);
  if (config_.normalize) {
    routing.weights_TK =
        routing.weights_TK / (routing.weights_TK.sum(/*dim=*/1, /*keepdim=*/true) + 1e-20);
  }
  if (config_.scaling_factor != 1.0)
    routing.weights_TK = routing.weights_TK * config_.scaling_factor;
  routing.kept_TK = at::ones(routing.experts_TK.sizes(), at::kBool);
  return routing;
}

Tensor TopKRouter::limit_to_groups(const Tensor& choice_TE) const {
  const int64_t T = choice_TE.size(0), N = config_.n_group;
  if (N <= 1 || T == 0) return choice_TE;
  const Tensor grouped_TNM = choice_TE.view({T, N, -1});
  const Tensor score_TN = config_.group_score == "max"
                              ? grouped_TNM.amax(/*dim=*/2)
                              : std::get<0>(grouped_TNM.topk(2, /*dim=*/2)).sum(/*dim=*/2);
  const Tensor chosen_groups = select_top_k(score_TN, config_.topk_group);
  const Tensor allowed_TN = at::zeros({T, N}, at::kBool).scatter_(1, chosen_groups, true);
  return at::where(allowed_TN.unsqueeze(2), grouped_TNM, -std::numeric_limits<float>::infinity())
      .view_as(choice_TE);
}

void TopKRouter::update_state(std::vector<Tensor>& state, const RouterStep& step) const {
  if (config_.selection_bias) {
    update_selection_bias(state[0], step.counts_E, config_.bias_update_rate);
  }
}

void update_selection_bias(Tensor& bias_E, const Tensor& counts_E, double rate) {
  bias_E.add_((counts_E.mean() - counts_E).sign().to(at::kFloat), rate);
}

}  // namespace switchyard
