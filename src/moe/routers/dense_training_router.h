#pragma once

#include "moe/router.h"

namespace switchyard {

/// DS-MoE, arXiv:2404.05567 section 3: dense training, sparse inference. S = softmax(W_r x),
///
///   y = sum over the chosen i of S_i expert_i(x)
///
/// with all experts chosen in training (so every score has a dense gradient), and in
/// evaluation and generation by dense_training.inference:
///   top_k      the moe.top_k best
///   threshold  those with S_i > dense_training.threshold: a token may have none, and is then
///              carried by the residual and the shared experts alone
///   all        all, as in training
/// The weights are never normalised. Choices are sorted, best first.
///
/// What counts choices per token (capacity, moe.balance types topk and hf, dropped shares,
/// FLOPs) takes moe.num_experts where all are chosen, see moe/choices_per_token.h. The load
/// is even in training whatever the router does: balance types topk and hf are
/// constant there, without a gradient; those of first choices (switch, gshard) and mutual
/// information, the paper's own, see the scores.
///
/// The paper's mixture of attention heads is not built. Causal: a token looks at no other.
class DenseTrainingRouter final : public Router {
 public:
  DenseTrainingRouter(const RouterConfig& config, const RouterPlace& place);
  std::vector<RouterWeight> weights() const override;
  Routing route(const at::Tensor& x_TD, const RouterTensors& tensors,
                const TokenContext& context) const override;

 private:
  DenseTrainingConfig config_;
  RouterPlace place_;
};

}  // namespace switchyard
