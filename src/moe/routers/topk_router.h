#pragma once

#include "moe/router.h"

namespace switchyard {

/// Top-k routing over softmax or sigmoid scores:
///
///   z = W_r x,  s = softmax(z) or sigmoid(z)
///   chosen = TopK(s + b)            b only chooses: loss-free balancing, arXiv:2408.15664 eq. 3
///   w_i = s_i [/ sum of chosen s] * scaling_factor
///
/// Mixtral (arXiv:2401.04088): softmax, normalised; with k = 1 the weight is 1 and the
/// output gives the router no gradient. DeepSeekMoE (arXiv:2401.06066
/// eqs. 9-11): softmax, not normalised. DeepSeek-V3 and GLM-4.5: sigmoid, bias,
/// normalised, scaled. With n_group > 1 experts are taken from the best
/// topk_group groups only (arXiv:2405.04434 section 2.1.2), a group's score being
/// its largest (`max`) or the sum of its two largest (`top2_sum`) s + b.
///
/// `group_limited` is this with n_group > 1.
///
/// `switch` (arXiv:2101.03961 eqs. 1-2) is this with k = 1 and the weight p,
/// never normalised: p / p = 1 would leave the router without a gradient. Its
/// exploration policies are in exploration.h.
///
/// Options, each in a header of its own: input jitter; logit normalization
/// (Skywork-MoE); noise on the logits, after the normalization, with V-MoE's
/// importance_TE = softmax of the clean logits and load_TE against the k-th noisy logit;
/// expert dropout (sigma-MoE), whose hidden experts are not kept even where fewer than
/// K are left. logits_TE are the normalised ones without noise, probs_TE are of those
/// with it. reroute_TR are the next best in the order of the choice, -1 where none is left.
///
/// Causal: a token's own hidden state alone, and the group's draw of hidden experts.
class TopKRouter final : public Router {
 public:
  TopKRouter(const RouterConfig& config, const RouterPlace& place);
  std::vector<RouterWeight> weights() const override;
  /// gate.e_score_correction_bias (E), with `selection_bias`.
  NamedState initial_state() const override;
  Routing route(const at::Tensor& x_TD, const RouterTensors& tensors,
                const TokenContext& context) const override;
  void update_state(std::vector<at::Tensor>& state, const RouterStep& step) const override;

 private:
  at::Tensor router_input(const at::Tensor& x_TD, const TokenContext& context) const;
  at::Tensor scores(const at::Tensor& logits_TE) const;
  /// Scores as probabilities that sum to 1.
  at::Tensor probabilities(const at::Tensor& scores_TE) const;
  /// What experts are chosen by; -inf: not to be chosen.
  at::Tensor choice_scores(const at::Tensor& scores_TE, const RouterTensors& tensors,
                           const TokenContext& context) const;
  at::Tensor limit_to_groups(const at::Tensor& choice_TE) const;
  /// Fills experts_TK, kept_TK and reroute_TR.
  void choose(const at::Tensor& choice_TE, Routing& routing) const;
  at::Tensor weights_of(const at::Tensor& scores_TE, const Routing& routing) const;
  /// Fills importance_TE and load_TE.
  void set_loss_gates(const at::Tensor& noisy_TE, Routing& routing,
                      const TokenContext& context) const;

  RouterConfig config_;
  RouterPlace place_;
};

/// Loss-free balancing, arXiv:2408.15664 algorithm 1: b += rate * sign(mean load -
/// load), from the whole step's counts (E), equal on all ranks. Local.
void update_selection_bias(at::Tensor& bias_E, const at::Tensor& counts_E, double rate);

}  // namespace switchyard
