#include "hf/family.h"

#include "config/join.h"
#include "hf/family_traits.h"

namespace switchyard {
namespace {

std::vector<FamilyTraits> make_families() {
  FamilyTraits dense{};
  dense.qkv_bias_key = "attention_bias";
  dense.qk_norm = "none";
  dense.free_head_dim = true;
  dense.expert_width_key = "moe_intermediate_size";

  FamilyTraits llama = dense;
  llama.family = Family::kLlama;
  llama.model_type = "llama";
  llama.label = "Llama";
  llama.architecture = "LlamaForCausalLM";
  llama.output_bias = true;
  llama.defaults = R"({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6, "rope_theta": 10000.0})";

  FamilyTraits mistral = dense;
  mistral.family = Family::kMistral;
  mistral.model_type = "mistral";
  mistral.label = "Mistral";
  mistral.architecture = "MistralForCausalLM";
  mistral.qkv_bias_key = nullptr;
  mistral.window = WindowKeys::kPlain;
  mistral.defaults = R"({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "sliding_window": 4096})";

  FamilyTraits qwen2 = dense;
  qwen2.family = Family::kQwen2;
  qwen2.model_type = "qwen2";
  qwen2.label = "Qwen2";
  qwen2.architecture = "Qwen2ForCausalLM";
  qwen2.qkv_bias_key = nullptr;
  qwen2.qkv_bias = true;
  qwen2.window = WindowKeys::kFromLayer;
  qwen2.defaults = R"({"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
    "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "sliding_window": 4096, "max_window_layers": 28})";

  FamilyTraits qwen3 = qwen2;
  qwen3.family = Family::kQwen3;
  qwen3.model_type = "qwen3";
  qwen3.label = "Qwen3";
  qwen3.architecture = "Qwen3ForCausalLM";
  qwen3.qkv_bias_key = "attention_bias";
  qwen3.output_bias = true;
  qwen3.qk_norm = "head";
  qwen3.defaults = R"({"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
    "head_dim": 128, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0, "sliding_window": 4096, "max_window_layers": 28})";

  FamilyTraits mixtral = mistral;
  mixtral.family = Family::kMixtral;
  mixtral.model_type = "mixtral";
  mixtral.label = "Mixtral";
  mixtral.architecture = "MixtralForCausalLM";
  mixtral.moe_layers = MoeLayers::kAll;
  mixtral.num_experts_key = "num_local_experts";
  mixtral.expert_width_key = "intermediate_size";
  mixtral.always_normalizes = true;
  mixtral.defaults = R"({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0,
    "num_local_experts": 8, "num_experts_per_tok": 2, "router_aux_loss_coef": 0.001})";

  FamilyTraits qwen2_moe = qwen2;
  qwen2_moe.family = Family::kQwen2Moe;
  qwen2_moe.model_type = "qwen2_moe";
  qwen2_moe.label = "Qwen2-MoE";
  qwen2_moe.architecture = "Qwen2MoeForCausalLM";
  qwen2_moe.qkv_bias_key = "qkv_bias";
  qwen2_moe.window = WindowKeys::kLayerTypes;
  qwen2_moe.moe_layers = MoeLayers::kListed;
  qwen2_moe.num_experts_key = "num_experts";
  qwen2_moe.shared = SharedExpert::kGated;
  qwen2_moe.defaults = R"({"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 5632,
    "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 16,
    "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "sliding_window": 4096, "qkv_bias": true, "decoder_sparse_step": 1,
    "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632,
    "num_experts_per_tok": 4, "num_experts": 60, "norm_topk_prob": false,
    "router_aux_loss_coef": 0.001})";

  FamilyTraits qwen3_moe = qwen3;
  qwen3_moe.family = Family::kQwen3Moe;
  qwen3_moe.model_type = "qwen3_moe";
  qwen3_moe.label = "Qwen3-MoE";
  qwen3_moe.architecture = "Qwen3MoeForCausalLM";
  qwen3_moe.window = WindowKeys::kSwitched;
  qwen3_moe.moe_layers = MoeLayers::kListed;
  qwen3_moe.num_experts_key = "num_experts";
  qwen3_moe.defaults = R"({"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144,
    "num_hidden_layers": 24, "num_attention_heads": 32, "num_key_value_heads": 4,
    "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "sliding_window": 4096, "decoder_sparse_step": 1, "moe_intermediate_size": 768,
    "num_experts_per_tok": 8, "num_experts": 128, "norm_topk_prob": false,
    "router_aux_loss_coef": 0.001})";

  FamilyTraits olmoe = dense;
  olmoe.family = Family::kOlmoe;
  olmoe.model_type = "olmoe";
  olmoe.label = "OLMoE";
  olmoe.architecture = "OlmoeForCausalLM";
  olmoe.output_bias = true;
  olmoe.qk_norm = "full";
  olmoe.free_head_dim = false;
  olmoe.moe_layers = MoeLayers::kAll;
  olmoe.num_experts_key = "num_experts";
  olmoe.expert_width_key = "intermediate_size";
  olmoe.defaults = R"({"vocab_size": 50304, "hidden_size": 2048, "intermediate_size": 2048,
    "num_hidden_layers": 16, "num_attention_heads": 16, "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "num_experts": 64, "num_experts_per_tok": 8,
    "norm_topk_prob": false, "router_aux_loss_coef": 0.01})";

  FamilyTraits glm4_moe = dense;
  glm4_moe.family = Family::kGlm4Moe;
  glm4_moe.model_type = "glm4_moe";
  glm4_moe.label = "GLM4-MoE";
  glm4_moe.architecture = "Glm4MoeForCausalLM";
  glm4_moe.qk_norm = "head";
  glm4_moe.qk_norm_optional = true;
  glm4_moe.partial_rotary = true;
  glm4_moe.moe_layers = MoeLayers::kAfterFirst;
  glm4_moe.num_experts_key = "n_routed_experts";
  glm4_moe.shared = SharedExpert::kPlain;
  glm4_moe.sigmoid = true;
  glm4_moe.defaults = R"({"vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 10944,
    "num_hidden_layers": 46, "num_attention_heads": 96, "num_key_value_heads": 8,
    "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "partial_rotary_factor": 0.5, "moe_intermediate_size": 1408, "num_experts_per_tok": 8,
    "n_shared_experts": 1, "n_routed_experts": 128, "routed_scaling_factor": 1.0, "n_group": 1,
    "topk_group": 1, "first_k_dense_replace": 1, "norm_topk_prob": true})";

  return {llama, mistral, qwen2, qwen3, mixtral, qwen2_moe, qwen3_moe, olmoe, glm4_moe};
}

}  // namespace

const std::vector<FamilyTraits>& all_families() {
  static const std::vector<FamilyTraits> families = make_families();
  return families;
}

const FamilyTraits& traits_of(Family family) { return all_families()[static_cast<size_t>(family)]; }

const char* to_string(Family family) { return traits_of(family).model_type; }

std::optional<Family> parse_family(const std::string& word) {
  for (const FamilyTraits& traits : all_families()) {
    if (word == traits.model_type) return traits.family;
  }
  return std::nullopt;
}

std::vector<std::string> family_words() {
  std::vector<std::string> words;
  for (const FamilyTraits& traits : all_families()) words.emplace_back(traits.model_type);
  return words;
}

const char* ffn_of_activation(const std::string& hidden_act) {
  if (hidden_act == "silu" || hidden_act == "swish") return "swiglu";
  return hidden_act == "gelu" ? "geglu" : nullptr;
}

const char* activation_of_ffn(const std::string& ffn) {
  if (ffn == "swiglu") return "silu";
  return ffn == "geglu" ? "gelu" : nullptr;
}

std::string moe_layers_text(const std::vector<int64_t>& layers, int64_t num_layers) {
  if (layers.empty()) return "none";
  if (static_cast<int64_t>(layers.size()) == num_layers) return "all";
  std::vector<std::string> numbers;
  for (const int64_t layer : layers) numbers.push_back(std::to_string(layer));
  return join(numbers, ",");
}

}  // namespace switchyard
