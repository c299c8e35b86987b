#pragma once

#include "moe/router.h"

namespace switchyard {

/// RL-R of "Unified Scaling Laws for Routed Language Models", arXiv:2202.01169 section 3.2:
/// the router is a policy whose action is the expert, learned by REINFORCE:
///
///   pi = softmax(W_r x);  in training e ~ pi, in evaluation e = argmax pi
///   y = expert_e(x)
///
/// The action is all that the policy does: the weight is 1, so the language loss alone gives
/// the router no gradient. Routing::log_policy_T is log pi(e) and Routing::baseline the
/// running mean loss; moe/router_objective.h makes the policy gradient of them. moe.top_k
/// must be 1.
///
/// A draw is the inverse of the distribution at a counter-based uniform number of (layer, sample,
/// position), so it does not know the layout.
///
/// State: gate.baseline (1), after each step b <- decay b + (1 - decay) loss. It starts
/// at log V, the loss of a model that knows nothing. Causal: a token looks at no other.
class ReinforceRouter final : public Router {
 public:
  /// Throws ConfigError when moe.top_k is not 1.
  ReinforceRouter(const RouterConfig& config, const RouterPlace& place);
  std::vector<RouterWeight> weights() const override;
  NamedState initial_state() const override;
  Routing route(const at::Tensor& x_TD, const RouterTensors& tensors,
                const TokenContext& context) const override;
  void update_state(std::vector<at::Tensor>& state, const RouterStep& step) const override;

 private:
  at::Tensor sample(const at::Tensor& probs_TE, const TokenContext& context) const;

  ReinforceConfig config_;
  RouterPlace place_;
};

}  // namespace switchyard
