#pragma once

#include <nlohmann/json.hpp>

#include "hf/family.h"

namespace switchyard {

inline constexpr Family kFamilies[] = {Family::kLlama,    Family::kMistral, Family::kQwen2,
                                       Family::kQwen3,    Family::kMixtral, Family::kQwen2Moe,
                                       Family::kQwen3Moe, Family::kOlmoe,   Family::kGlm4Moe};

/// What a family's config.json has besides sizes, as transformers 4 and the models' own
/// repositories spell it.
inline nlohmann::json family_keys(Family family) {
  using nlohmann::json;
  switch (family) {
    case Family::kLlama:
      return {{"mlp_bias", false}, {"pretraining_tp", 1}, {"rope_scaling", nullptr}};
    case Family::kMistral:
      return {{"sliding_window", nullptr}};
    case Family::kQwen2:
    case Family::kQwen3:
      return {{"use_sliding_window", false}, {"sliding_window", nullptr}, {"max_window_layers", 3}};
    case Family::kMixtral:
      return {{"num_local_experts", 4},       {"num_experts_per_tok", 2},
              {"sliding_window", nullptr},    {"output_router_logits", false},
              {"router_aux_loss_coef", 0.02}, {"router_jitter_noise", 0.0}};
    case Family::kQwen2Moe:
      return {{"moe_intermediate_size", 6},
              {"shared_expert_intermediate_size", 10},
              {"num_experts", 4},
              {"num_experts_per_tok", 2},
              {"norm_topk_prob", false},
              {"decoder_sparse_step", 1},
              {"mlp_only_layers", json::array()},
              {"use_sliding_window", false},
              {"sliding_window", 0},
              {"max_window_layers", 2},
              {"qkv_bias", true},
              {"router_aux_loss_coef", 0.001}};
    case Family::kQwen3Moe:
      return {{"moe_intermediate_size", 6},   {"num_experts", 4},
              {"num_experts_per_tok", 2},     {"norm_topk_prob", true},
              {"decoder_sparse_step", 1},     {"mlp_only_layers", {1}},
              {"use_sliding_window", false},  {"sliding_window", nullptr},
              {"router_aux_loss_coef", 0.001}};
    case Family::kOlmoe:
      return {{"num_experts", 4},
              {"num_experts_per_tok", 2},
              {"norm_topk_prob", false},
              {"clip_qkv", nullptr},
              {"router_aux_loss_coef", 0.01}};
    case Family::kGlm4Moe:
      return {{"moe_intermediate_size", 6},
              {"n_routed_experts", 4},
              {"n_shared_experts", 2},
              {"num_experts_per_tok", 2},
              {"first_k_dense_replace", 1},
              {"n_group", 2},
              {"topk_group", 1},
              {"norm_topk_prob", true},
              {"routed_scaling_factor", 1.5},
              {"use_qk_norm", false},
              {"partial_rotary_factor", 0.5},
              {"num_nextn_predict_layers", 0}};
  }
  return {};
}

/// The config.json of a small model.
inline nlohmann::json sample_config(Family family) {
  nlohmann::json config = {{"model_type", to_string(family)},
                           {"vocab_size", 23},
                           {"hidden_size", 16},
                           {"intermediate_size", 12},
                           {"num_hidden_layers", 3},
                           {"num_attention_heads", 4},
                           {"num_key_value_heads", 2},
                           {"head_dim", 4},
                           {"hidden_act", "silu"},
                           {"max_position_embeddings", 64},
                           {"initializer_range", 0.03},
                           {"rms_norm_eps", 1e-5},
                           {"rope_theta", 5000.0},
                           {"tie_word_embeddings", false},
                           {"attention_bias", false},
                           {"attention_dropout", 0.0},
                           {"bos_token_id", 1},
                           {"eos_token_id", 2},
                           {"torch_dtype", "float32"},
                           {"use_cache", true}};
  config.update(family_keys(family));
  return config;
}

inline nlohmann::json changed(nlohmann::json config, const nlohmann::json& changes) {
  config.update(changes);
  return config;
}

}  // namespace switchyard
