#pragma once

#include "moe/router.h"
#include "moe/routers/noisy_gate.h"

namespace switchyard {

/// Noisy top-k gating, Shazeer et al. (arXiv:1701.06538 section 2.1):
///
///   z = W_g x,  r = W_n x, both matrices zero at the start (appendix A)
///   y = sum over i of G(x)_i E_i(x), with G of noisy_gate.h
///   importance_TE = G, load_TE = P(x, i)
///
/// for the losses w CV(sum over tokens)^2, w = 0.1 in the paper. Noise in training
/// only. logits_TE are z, probs_TE are the softmax of H over all experts.
///
/// Hierarchical (appendix B), `noisy_topk.groups` a > 1 groups of b = E / a experts: a
/// primary gate chooses groups_per_token groups, and in each a gate of its own chooses
/// top_k / groups_per_token experts:
///
///   G_H(i, j) = G_primary(x)_i G_i(x)_j
///   Load_H(X)_ij = Load_primary(X)_i Load_i(X^(i))_j / |X^(i)|
///
/// where X^(i) are the tokens for which G_primary_i > 0. As X we take the routing group:
/// load_TE = P_primary(x, i) times the mean over X^(i) of P_i(x', j) sums to Load_H over it; 0
/// where X^(i) is empty. logits_TE are those of the second level, probs_TE the product of
/// both levels' softmax.
///
/// Weights: gate.weight and gate.noise.weight (E, D); hierarchical gate.group.weight and
/// gate.group.noise.weight (a, D) too. Needs top_k to be a multiple of groups_per_token,
/// top_k / groups_per_token <= E / a and groups_per_token <= a <= E, a dividing E.
///
/// The choice and the weights are causal: a token's own hidden state alone. load_TE of a
/// hierarchical mixture, read by losses only, looks at the routing group.
class NoisyTopKRouter final : public Router {
 public:
  NoisyTopKRouter(const RouterConfig& config, const RouterPlace& place);
  std::vector<RouterWeight> weights() const override;
  Routing route(const at::Tensor& x_TD, const RouterTensors& tensors,
                const TokenContext& context) const override;

 private:
  /// One level: of M experts or groups for each token, or for each token and group.
  NoisyGate gate(const at::Tensor& clean_TE, const at::Tensor& raw_TE, int64_t choices,
                 int64_t top_k, const std::string& level, const TokenContext& context) const;
  Routing flat(const at::Tensor& x_TD, const RouterTensors& tensors,
               const TokenContext& context) const;
  Routing hierarchical(const at::Tensor& x_TD, const RouterTensors& tensors,
                       const TokenContext& context) const;

  RouterConfig config_;
  RouterPlace place_;
  int64_t groups_, groups_per_token_, experts_per_group_;
};

}  // namespace switchyard
