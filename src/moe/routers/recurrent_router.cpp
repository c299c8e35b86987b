#include "moe/routers/recurrent_router.h"

#include <ATen/ATen.h>

#include <cmath>

#include "moe/routers/jitter.h"
#include "moe/routers/softmax_top_k.h"

// T tokens, D model width, E experts, P width of the state.

namespace switchyard {

using at::Tensor;

RecurrentRouter::RecurrentRouter(const RouterConfig& config, const RouterPlace& place)
    : config_(config), place_(place) {}

std::vector<RouterWeight> RecurrentRouter::weights() const {
  const int64_t P = config_.recurrent.hidden_size;
  const Init normal{Init::Type::kNormal, place_.init_std, {}};
  const Init uniform{Init::Type::kUniform, 1 / std::sqrt(static_cast<double>(P)), {}};
  return {{"gate.input.weight", {P, place_.hidden_size}, normal},
          {"gate.weight", {place_.num_experts, P}, normal},
          {"gru.weight_ih", {3 * P, P}, uniform, /*shared=*/true},
          {"gru.weight_hh", {3 * P, P}, uniform, /*shared=*/true},
          {"gru.bias_ih", {3 * P}, uniform, /*shared=*/true},
          {"gru.bias_hh", {3 * P}, uniform, /*shared=*/true}};
}

Routing RecurrentRouter::route(const Tensor& x_TD, const RouterTensors& tensors,
                               const TokenContext& context) const {
  const auto weight = [&](size_t i) { return to_router_dtype(tensors.weights[i]); };
  const Tensor input_TD = jitter(to_router_dtype(x_TD), config_.jitter_eps, place_.layer, context);
  const Tensor input_TP = at::linear(input_TD, weight(0));
  const Tensor before_TP =
      context.memory_TP.defined() ? context.memory_TP : at::zeros_like(input_TP);
  const Tensor memory_TP =
      at::gru_cell(input_TP, before_TP, weight(2), weight(3), weight(4), weight(5));
  Routing routing = softmax_top_k(at::linear(memory_TP, weight(1)), config_, place_.top_k);
  routing.memory_TP = memory_TP;
  return routing;
}

}  // namespace switchyard
