#pragma once

#include "moe/router.h"

namespace switchyard {

/// The attention router of Yuan 2.0-M32 (arXiv:2405.17976 section 2.1, eqs. 1-3): experts
/// attend to each other, so that a logit knows how the others stand.
///
///   Q = W x,  K = W' x,  V = W'' x              each in R^E
///   z = softmax(Q K^T) V                        Q K^T: (E, E), softmax over the last axis
///   p = softmax(z),  the K largest, normalised as moe.router.normalize says
///
/// No scale of 1/sqrt(d), as in the released code. The outer product is of one token
/// with itself: no token sees another, so it is causal. 3 E D parameters,
/// gate.{query,key,value}.weight (E, D), where the released code has them in one
/// matrix; (T, E, E) floats of memory, kept for backward.
class AttentionRouter final : public Router {
 public:
  AttentionRouter(const RouterConfig& config, const RouterPlace& place);
  std::vector<RouterWeight> weights() const override;
  Routing route(const at::Tensor& x_TD, const RouterTensors& tensors,
                const TokenContext& context) const override;

 private:
  RouterConfig config_;
  RouterPlace place_;
};

}  // namespace switchyard
