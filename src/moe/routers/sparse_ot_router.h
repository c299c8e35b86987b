#pragma once

#include "moe/router.h"

namespace switchyard {

/// Sparsity-constrained optimal transport as a router, arXiv:2209.15466 section 5.3
/// and appendix, in each routing group of N tokens:
///
///   S = softmax(W_r x),  T* = the sparse plan of S: see sparse_transport.h
///   a token goes to the experts where T* is not zero
///   weight = S there (sparse_ot.weights: softmax, as in V-MoE's released code) or T*
///
/// `limit: expert`: at most C = N top_k / E tokens (rounded up) of an expert, a token
/// having as many places as there are experts; expert sums are exact, and a token may
/// be taken by none. `limit: token`: at most top_k experts of a token, at least one;
/// expert loads are balanced in the limit of many iterations.
///
/// With `plan` the gradient is that of the last projection, the potentials held
/// constant (the released code differentiates through them too). Padding has no
/// part in the plan.
///
/// Not causal: the plan depends on later tokens of the group, in training and
/// evaluation.
class SparseOtRouter final : public Router {
 public:
  SparseOtRouter(const RouterConfig& config, const RouterPlace& place);
  std::vector<RouterWeight> weights() const override;
  Routing route(const at::Tensor& x_TD, const RouterTensors& tensors,
                const TokenContext& context) const override;

 private:
  at::Tensor plan(const at::Tensor& probs_TE, const TokenContext& context) const;

  SparseOtConfig config_;
  RouterPlace place_;
};

}  // namespace switchyard
