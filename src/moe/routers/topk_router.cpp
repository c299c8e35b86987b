#include "moe/routers/topk_router.h"

#include <ATen/ATen.h>

#include <limits>

#include "moe/routers/jitter.h"
#include "moe/select_top_k.h"

// T tokens, E experts, K experts per token, N expert groups of M experts.

namespace switchyard {

using at::Tensor;

TopKRouter::TopKRouter(const RouterConfig& config, int64_t top_k, int64_t layer)
    : config_(config), top_k_(top_k), layer_(layer) {
  if (config_.type == "switch") config_.normalize = false;
}

Routing TopKRouter::route(const Tensor& x_TD, const RouterWeights& weights,
                          const TokenContext& context) const {
  Routing routing;
  const Tensor input_TD = jitter(x_TD.to(at::kFloat), config_.jitter_eps, layer_, context);
  routing.logits_TE = at::linear(input_TD, weights.gate_ED.to(at::kFloat));

  const bool sigmoid = config_.score == "sigmoid";
  const Tensor scores_TE =
      sigmoid ? routing.logits_TE.sigmoid() : routing.logits_TE.softmax(/*dim=*/1);
  routing.probs_TE =
      sigmoid ? scores_TE / (scores_TE.sum(/*dim=*/1, /*keepdim=*/true) + 1e-20) : scores_TE;

  Tensor choice_TE = scores_TE.detach();
  if (weights.bias_E.defined()) choice_TE = choice_TE + weights.bias_E;
  routing.experts_TK = select_top_k(limit_to_groups(choice_TE), top_k_);

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

}  // namespace switchyard
