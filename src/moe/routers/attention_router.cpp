#include "moe/routers/attention_router.h"

#include <ATen/ATen.h>

#include "moe/routers/jitter.h"
#include "moe/routers/softmax_top_k.h"

// T tokens, D model width, E experts.

namespace switchyard {

using at::Tensor;

AttentionRouter::AttentionRouter(const RouterConfig& config, const RouterPlace& place)
    : config_(config), place_(place) {}

std::vector<RouterWeight> AttentionRouter::weights() const {
  std::vector<RouterWeight> weights;
  for (const char* part : {"query", "key", "value"}) {
    weights.push_back(gate_weight(place_));
    weights.back().name = "gate." + std::string(part) + ".weight";
  }
  return weights;
}

Routing AttentionRouter::route(const Tensor& x_TD, const RouterTensors& tensors,
                               const TokenContext& context) const {
  const Tensor input_TD = jitter(to_router_dtype(x_TD), config_.jitter_eps, place_.layer, context);
  const Tensor query_TE = gate_logits(input_TD, tensors.weights[0]),
               key_TE = gate_logits(input_TD, tensors.weights[1]),
               value_TE = gate_logits(input_TD, tensors.weights[2]);
  const Tensor attention_TEE = (query_TE.unsqueeze(2) * key_TE.unsqueeze(1)).softmax(/*dim=*/2);
  const Tensor logits_TE = at::matmul(attention_TEE, value_TE.unsqueeze(2)).squeeze(2);
  return softmax_top_k(logits_TE, config_, place_.top_k);
}

}  // namespace switchyard
