#include "model/model_size.h"

#include "config/load_config.h"
#include "moe/choices_per_token.h"
#include "moe/router.h"
#include "ops/activation.h"

namespace switchyard {
namespace {

int64_t ffn_weights(const ModelConfig& model, int64_t intermediate_size) {
  return (is_gated(parse_ffn(model.ffn)) ? 3 : 2) * model.hidden_size * intermediate_size;
}

struct AttentionSize {
  int64_t products, others;  // weights in matrix products; biases and norms
};

AttentionSize attention_size(const ModelConfig& model) {
  const int64_t q = model.num_attention_heads * model.head_dim,
                kv = model.num_key_value_heads * model.head_dim;
  AttentionSize size{model.hidden_size * (2 * q + 2 * kv), 0};
  if (model.attention_bias) size.others += q + 2 * kv;
  if (model.attention_output_bias) size.others += model.hidden_size;
  if (model.qk_norm == "head") size.others += 2 * model.head_dim;
  if (model.qk_norm == "full") size.others += q + kv;
  return size;
}

/// Weights of the routers: all, each shared one once, and those that a token meets.
struct RouterSize {
  int64_t parameters = 0, products = 0;
};

RouterSize router_size(const ModelConfig& model, const MoeConfig& moe, int64_t moe_layers) {
  RouterSize size;
  if (moe_layers == 0) return size;
  for (const RouterWeight& weight :
       make_router(moe.router, router_place(model, moe, /*layer=*/0))->weights()) {
    const int64_t elements = c10::multiply_integers(weight.shape);
    size.parameters += elements * (weight.shared ? 1 : moe_layers);
    if (weight.shape.size() == 2) size.products += elements * moe_layers;
  }
  return size;
}

}  // namespace

ModelSize model_size(const ModelConfig& model, const MoeConfig& moe, int64_t sequence_length) {
  const int64_t D = model.hidden_size, L = model.num_hidden_layers;
  const auto moe_layers = static_cast<int64_t>(moe_layer_indices(moe, L).size());
  const AttentionSize attention = attention_size(model);
  const int64_t shared_width = moe.shared_experts.num * moe.shared_experts.intermediate_size;
  const int64_t shared = moe.shared_experts.num == 0 ? 0
                                                     : ffn_weights(model, shared_width) +
                                                           (moe.shared_experts.gated ? D : 0);
  const int64_t expert = ffn_weights(model, moe.expert_intermediate_size);
  const int64_t head = model.vocab_size * D;

  const RouterSize routers = router_size(model, moe, moe_layers);
  const int64_t dense_products = L * attention.products +
                                 (L - moe_layers) * ffn_weights(model, model.intermediate_size) +
                                 moe_layers * shared + routers.products + head;
  const int64_t other_dense = L * (attention.others + 2 * D) + D +
                              (model.tie_word_embeddings ? 0 : head) + routers.parameters -
                              routers.products;

  ModelSize size;
  size.dense_parameters = dense_products + other_dense;
  size.expert_parameters = moe_layers * moe.num_experts * expert;
  size.active_parameters = size.dense_parameters + moe_layers * moe.top_k * expert;
  const int64_t trained = moe_layers * choices_per_token(moe, Mode::kTrain) * expert;
  size.flops_per_token =
      6.0 * static_cast<double>(dense_products + trained) +
      6.0 * static_cast<double>(L * sequence_length * model.num_attention_heads * model.head_dim);
  return size;
}

}  // namespace switchyard
