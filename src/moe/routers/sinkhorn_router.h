#pragma once

#include "moe/router.h"

namespace switchyard {

/// S-BASE, Unified Scaling Laws for Routed Language Models (arXiv:2202.01169 section
/// 3.2 and appendix B), in each routing group of N tokens:
///
///   training    the largest entries of a token's row of the Sinkhorn plan of the
///               logits, rows summing to 1 and columns to N / E: see sinkhorn_plan.h
///   evaluation  the largest logits
///   weight      softmax(z) of the chosen experts, not normalised
///
/// The paper chooses one expert (top_k 1); with more the next largest entries are
/// taken, as Megatron-LM does. The plan chooses and has no gradient.
///
/// Differs from the paper: the marginals are those of the routing group, not of the
/// whole batch, so that no ranks need to agree; the number of iterations is fixed
/// (sinkhorn.iterations). Padding has no part in the plan.
///
/// Not causal in training: a token's expert depends on later tokens of its group.
/// Evaluation is causal.
class SinkhornRouter final : public Router {
 public:
  SinkhornRouter(const RouterConfig& config, const RouterPlace& place);
  std::vector<RouterWeight> weights() const override;
  Routing route(const at::Tensor& x_TD, const RouterTensors& tensors,
                const TokenContext& context) const override;

 private:
  int64_t iterations_;
  RouterPlace place_;
};

}  // namespace switchyard
