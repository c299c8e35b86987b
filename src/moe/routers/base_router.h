#pragma once

#include "moe/router.h"

namespace switchyard {

/// BASE layers, arXiv:2103.16716 section 3, in each routing group of N tokens:
///
///   training    a = argmax sum_t h_t . w_{a_t}  with N / E tokens for every expert,
///               up to base.epsilon (eqs. 1-2): see balanced_assignment.h
///   evaluation  a_t = argmax_e h_t . w_e
///   weight      alpha = sigma(h_t . w_{a_t}), the only path by which the gate learns
///
/// The paper's layer is alpha f(h) + (1 - alpha) h with f(h) = h + g(h), that is h +
/// alpha g(h): the decoder's residual and alpha times the feed-forward. Needs top_k
/// 1. The gate starts orthogonal with gain 0.1; with moe.expert_init zero_output
/// the layer is the identity at the start, as in the paper.
///
/// Differs from the paper: the assignment is made in the routing group and so
/// knows no ranks, which is why tokens are not shuffled among workers first; h is
/// what the layer's norm gives; loads differ by one where E does not divide N.
/// Padding has no part in the assignment.
///
/// Not causal in training: a token's expert depends on later tokens of its group.
/// Evaluation is causal.
class BaseRouter final : public Router {
 public:
  BaseRouter(const RouterConfig& config, const RouterPlace& place);
  std::vector<RouterWeight> weights() const override;
  Routing route(const at::Tensor& x_TD, const RouterTensors& tensors,
                const TokenContext& context) const override;

 private:
  /// Experts (T, 1) in training, by the scores (T, E), on the host.
  at::Tensor assigned(const at::Tensor& scores_TE, const TokenContext& context) const;

  double epsilon_;
  RouterPlace place_;
};

}  // namespace switchyard
