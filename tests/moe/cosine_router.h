#pragma once

#include <ATen/ATen.h>

#include "moe/router.h"
#include "moe/routers/softmax_top_k.h"

namespace switchyard {

/// A router by angle (after X-MoE, arXiv:2204.09179): the length of a token's vector has no say.
///
///   z_e = cos(x, w_e) / tau,  tau = 0.07;  then softmax and the K largest, as topk does
///
/// gate.weight (E, D). Causal: no token sees another. docs/howto_router.md builds it.
class CosineRouter final : public Router {
 public:
  CosineRouter(const RouterConfig& config, const RouterPlace& place)
      : config_(config), place_(place) {}

  std::vector<RouterWeight> weights() const override { return {gate_weight(place_)}; }

  Routing route(const at::Tensor& x_TD, const RouterTensors& tensors,
                const TokenContext& /*context*/) const override {
    const at::Tensor cosines_TE = gate_logits(unit(x_TD), unit(tensors.weights[0]));
    return softmax_top_k(cosines_TE / 0.07, config_, place_.top_k);
  }

 private:
  /// Rows of length 1; a row of zeros stays.
  static at::Tensor unit(const at::Tensor& rows) {
    const at::Tensor exact = to_router_dtype(rows);
    return exact / exact.norm(2, /*dim=*/1, /*keepdim=*/true).clamp_min(1e-6);
  }

  RouterConfig config_;
  RouterPlace place_;
};

}  // namespace switchyard
