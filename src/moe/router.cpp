#include "moe/router.h"

#include <ATen/ATen.h>

namespace switchyard {

void Router::update_state(std::vector<at::Tensor>& /*state*/, const RouterStep& /*step*/) const {}

void Router::use_token_counts(const at::Tensor& /*counts_V*/,
                              std::vector<at::Tensor>& /*state*/) const {}

RouterPlace router_place(const ModelConfig& model, const MoeConfig& moe, int64_t layer) {
  RouterPlace place;
  place.layer = layer;
  place.hidden_size = model.hidden_size;
  place.vocab_size = model.vocab_size;
  place.num_experts = moe.num_experts;
  place.top_k = moe.top_k;
  place.init_std = model.init_std;
  return place;
}

RouterWeight gate_weight(const RouterPlace& place) {
  return {"gate.weight",
          {place.num_experts, place.hidden_size},
          {Init::Type::kNormal, place.init_std, {}}};
}

at::Tensor gate_logits(const at::Tensor& x_TD, const at::Tensor& gate_ED) {
  return at::linear(to_router_dtype(x_TD), to_router_dtype(gate_ED));
}

at::Tensor to_router_dtype(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
}

}  // namespace switchyard
