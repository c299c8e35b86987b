#pragma once

#include "moe/router.h"

namespace switchyard {

/// Expert Choice, arXiv:2202.09368 section 3.2, in each routing group of N tokens:
///
///   S = softmax over experts of W_r x       (eq. 1)
///   expert i takes its C best tokens of column i,  C = N c / E
///   y_t = sum over the experts that took t of S_ti expert_i(x_t)
///
/// c = expert_choice.capacity_factor (default moe.top_k; the paper uses 2) and C is
/// rounded up, at least 1 and at most N. With max_experts_per_token the choice is
/// the capped one of section 3.3: see capped_choice.h. Weights are S, not normalised,
/// in both. Equal scores go to the earlier token. Padding is not taken and not
/// counted in N. No balance loss is needed: loads are equal by construction.
///
/// A token has as many places as there are experts, or as the cap allows.
///
/// Not causal: whether a token is taken depends on later tokens of its group, in
/// training and evaluation. A group of few tokens, as in generation, gets other
/// experts than the same tokens in a long one.
class ExpertChoiceRouter final : public Router {
 public:
  ExpertChoiceRouter(const RouterConfig& config, const RouterPlace& place);
  std::vector<RouterWeight> weights() const override;
  Routing route(const at::Tensor& x_TD, const RouterTensors& tensors,
                const TokenContext& context) const override;

 private:
  /// Which tokens the experts take: (T, E) bool, on the host.
  at::Tensor choices_of_experts(const at::Tensor& scores_TE, const TokenContext& context) const;

  double factor_;
  int64_t per_token_;  // E: no cap
  RouterPlace place_;
};

}  // namespace switchyard
