#pragma once

#include "moe/router.h"

namespace switchyard {

/// DSelect-k (arXiv:2106.03760), conditioned on each token: k = moe.top_k selectors, each
/// of which names an expert by m = ceil(log2 E) bits that a smooth step makes of numbers.
///
///   z^l = U_l x + b_l in R^m,  a = u x in R^k                              l = 1..k
///   S(t) = 0 for t <= -gamma/2, 1 for t >= gamma/2,
///          -2/gamma^3 t^3 + 3/(2 gamma) t + 1/2 between                    eq. 3
///   r(z)_i = product over bits j of S(z_j) if bit j of i is 1, else 1 - S(z_j)   eq. 4
///   q = sum_l softmax(a)_l r(z^l)                                          eq. 5
///
/// Bit 0 is the most significant, as in the released code. The weights are q, and a
/// token goes to every expert with q > 0: to all E at the start, to at most k once the
/// selectors have decided, where the steps are flat and send no gradient. So K = E, best
/// first. Not normalised: q sums to 1 where E is a power of two; otherwise the codes from
/// E on, which name no expert, take the rest. probs_TE is q over its sum, logits_TE the
/// logarithm of q (1e-20 at least), so that the z-loss is that of the missing share.
///
/// regularizer_T, of weight 1, is a token's
///
///   entropy_coef * sum_l H(r(z^l))  [+ sum_l 1 / sum_{i < E} r(z^l)_i   if E is no power of 2]
///
/// with H(r) = -sum_{i < E} r_i log(r_i + 1e-6) and the denominator at least 1e-6, lest a
/// selector that is sure of no expert make the loss infinite. The released code sums over the
/// tokens, we take their mean.
///
/// Weights: gate.selector.weight (k, D), gate.code.weight (k m, D), gate.code.bias (k m).
/// The bias starts uniform in +-gamma/100, as theirs, and the code's weight in
/// +-gamma/(100 sqrt(D)), where theirs has +-gamma/100: with hidden states of root mean
/// square 1 and width 4096 that would decide a third of the bits at once, and this has all
/// |z| below gamma/20, dense. The selectors' weights have no bias. Causal: a token sees no other.
class DSelectKRouter final : public Router {
 public:
  DSelectKRouter(const RouterConfig& config, const RouterPlace& place);
  std::vector<RouterWeight> weights() const override;
  Routing route(const at::Tensor& x_TD, const RouterTensors& tensors,
                const TokenContext& context) const override;

 private:
  /// r (T, L, E) of z (T, L, M).
  at::Tensor select(const at::Tensor& z_TLM) const;
  /// The regularizer (T) of r (T, L, E).
  at::Tensor regularizer(const at::Tensor& r_TLE) const;

  RouterConfig config_;
  RouterPlace place_;
  int64_t bits_;
};

/// S(t), eq. 3: once continuously differentiable, exactly 0 and 1 outside.
at::Tensor smooth_step(const at::Tensor& t, double gamma);

}  // namespace switchyard
