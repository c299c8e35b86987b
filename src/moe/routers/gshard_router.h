#pragma once

#include "moe/router.h"

namespace switchyard {

/// GShard's top-2 gate, arXiv:2006.16668 algorithm 1:
///
///   g = softmax(W_r x);  e1, e2 = the two largest;  g1, g2 <- g / (g1 + g2)
///
/// The second expert is kept by `second_expert_policy`:
///   all        always
///   none       never
///   random     when 2 g2 > u, u uniform: with probability min(1, 2 g2) (the paper)
///   threshold  when g2 > second_threshold
///   sampling   e2 is drawn in proportion to the other experts' probabilities
///              (Gumbel-max), as in fairseq; always kept
///
/// `normalize_gate: before_drop` (the paper, mesh) keeps g1 when the second is
/// dropped, `after_drop` (fairseq) rescales what is left to sum 1. In `random`
/// and `threshold` g2 is the normalised gate with before_drop and the plain
/// probability with after_drop. Draws are counter-based and made in training only:
/// evaluation takes `random` and `sampling` as `all`.
///
/// First choices take capacity before any second choice: MoeLayer drops with the
/// priority `choice` for this router.
class GShardRouter final : public Router {
 public:
  GShardRouter(const RouterConfig& config, const RouterPlace& place);
  std::vector<RouterWeight> weights() const override;
  Routing route(const at::Tensor& x_TD, const RouterTensors& tensors,
                const TokenContext& context) const override;

 private:
  std::string draws_name() const;
  at::Tensor choose_second(const at::Tensor& logits_TE, const at::Tensor& first_T,
                           const TokenContext& context) const;
  at::Tensor keep_second(const at::Tensor& gate2_T, const TokenContext& context) const;

  RouterConfig config_;
  RouterPlace place_;
};

}  // namespace switchyard
