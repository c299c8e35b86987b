#pragma once

#include "moe/router.h"

namespace switchyard {

/// SparseMixer-v2 of GRIN (arXiv:2409.12136 appendix A, algorithm 1): experts are sampled
/// in training, and the gradient of the choice is estimated by Heun's third-order method.
/// Choice by choice, with the logits of the experts chosen before at -inf:
///
///   p = MaskedSoftmax(z): softmax over the experts with (z* - z_i) / max(|z_i|, z*) <= 2 eps,
///       z* the largest logit                     the rule of transformers' PhiMoE
///   training    D ~ p by Gumbel draws;  w = p_D;  s = 1 if D is the best or B = 1, else 1/3;
///               B ~ Bernoulli(1/4);  the output is s w E_D(x) in value and w E_D(x) to the
///               gradient
///   evaluation  D the best, w = p_D, s = 1
///
/// Ties go to the lower id. Every choice has its own softmax: the weights of a token do
/// not sum to 1, and neither `normalize` nor `scaling_factor` acts. probs_TE is the softmax of
/// all logits. Draws are counter-based, keyed by (layer, choice, sample, position). Causal: a
/// token sees no other.
///
/// `version: v2_star` corrects what the paper calls a slip of its derivation: v2 estimates one
/// of the two parts of the gradient of E_D[f(p_D E_D)], through the choice and through the
/// weight. Their sum is twice an average with B ~ Bernoulli(5/8), so w has twice the gradient,
/// and p = MaskedSoftmax(z / 2), in evaluation too, halves it again.
///
/// `expert_gradient: algorithm1` is the above: s goes to Routing::value_scale_TK.
/// `scaled` is what transformers does: s is in w's value, so that experts learn from s w
/// (the router's gradient is the same).
class SparseMixerRouter final : public Router {
 public:
  SparseMixerRouter(const RouterConfig& config, const RouterPlace& place);
  std::vector<RouterWeight> weights() const override;
  Routing route(const at::Tensor& x_TD, const RouterTensors& tensors,
                const TokenContext& context) const override;

 private:
  struct Choice {
    at::Tensor expert_T1, weight_T1, scale_T1;
  };
  /// The next choice; taken_TE (T, E) bool: chosen before.
  Choice choose(const at::Tensor& logits_TE, const at::Tensor& taken_TE, int64_t choice,
                const TokenContext& context) const;

  RouterConfig config_;
  RouterPlace place_;
};

}  // namespace switchyard
