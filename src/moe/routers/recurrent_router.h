#pragma once

#include "moe/router.h"

namespace switchyard {

/// The layerwise recurrent router of RMoE (arXiv:2408.06793 section 3.2): a token carries
/// a state from MoE layer to MoE layer, through one GRU that all of them share.
///
///   x' = W1 h                                 gate.input.weight (P, D), of this layer
///   r_l = GRU(x', r_{l-1}),  r_0 = 0          model.router.gru.*, shared
///   z = W2 r_l                                gate.weight (E, P), of this layer
///   p = softmax(z),  the K largest, normalised as moe.router.normalize says
///
/// The GRU is torch's GRUCell: weight_ih, weight_hh (3P, P), bias_ih, bias_hh (3P),
/// rows in the order r, z, n, and
///
///   r = sigmoid(W_ir x + b_ir + W_hr h + b_hr),  z alike
///   n = tanh(W_in x + b_in + r * (W_hn h + b_hn)),  h' = (1 - z) n + z h
///
/// starting, as that does, uniform in +-1/sqrt(P). P is moe.router.recurrent.hidden_size.
/// The state runs over depth, token by token, in token order: a token sees no other,
/// so it is causal, and dispatch does not touch it. Read from TokenContext::memory_TP
/// and left in Routing::memory_TP; the gradient flows through both.
class RecurrentRouter final : public Router {
 public:
  RecurrentRouter(const RouterConfig& config, const RouterPlace& place);
  std::vector<RouterWeight> weights() const override;
  Routing route(const at::Tensor& x_TD, const RouterTensors& tensors,
                const TokenContext& context) const override;

 private:
  RouterConfig config_;
  RouterPlace place_;
};

}  // namespace switchyard
