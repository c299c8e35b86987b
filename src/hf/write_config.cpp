#include <algorithm>

#include "config/load_config.h"
#include "hf/family.h"
#include "hf/family_traits.h"

namespace switchyard {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr int64_t kDefaultPositions = 4096;

class ConfigWriter {
 public:
  ConfigWriter(const FamilyTraits& traits, const ModelConfig& model, const MoeConfig& moe,
               const json& carried)
      : traits_(traits),
        model_(model),
        moe_(moe),
        carried_(carried),
        moe_layers_(moe_layer_indices(moe, model.num_hidden_layers)) {}

  ordered_json write(const std::string& dtype) && {
    write_shape();
    write_rotary();
    write_attention();
    write_window();
    if (traits_.is_moe()) write_moe();
    write_ids();
    // transformers 5 writes and reads the second, 4 and the others the first.
    json_["torch_dtype"] = dtype;
    json_["dtype"] = dtype;
    json_["use_cache"] = true;
    return std::move(json_);
  }

 private:
  void write_shape() {
    json_["architectures"] = {traits_.architecture};
    json_["model_type"] = traits_.model_type;
    json_["vocab_size"] = model_.vocab_size;
    json_["hidden_size"] = model_.hidden_size;
    json_["intermediate_size"] = model_.intermediate_size;
    json_["num_hidden_layers"] = model_.num_hidden_layers;
    json_["num_attention_heads"] = model_.num_attention_heads;
    json_["num_key_value_heads"] = model_.num_key_value_heads;
    json_["head_dim"] = model_.head_dim;
    const char* activation = activation_of_ffn(model_.ffn);
    json_["hidden_act"] = activation == nullptr ? model_.ffn : std::string(activation);
    json_["max_position_embeddings"] = carried_or("max_position_embeddings", kDefaultPositions);
    json_["initializer_range"] = model_.init_std;
    json_["rms_norm_eps"] = model_.rms_norm_eps;
    json_["tie_word_embeddings"] = model_.tie_word_embeddings;
  }

  /// Transformers 4, vLLM and llama.cpp read rope_theta, rope_scaling and
  /// partial_rotary_factor; transformers 5 rope_parameters.
  void write_rotary() {
    const RopeScalingConfig& scaling = model_.rope_scaling;
    ordered_json rotary = {{"rope_type", scaling.type == "none" ? "default" : scaling.type}};
    if (scaling.type != "none") rotary["factor"] = scaling.factor;
    if (scaling.type == "llama3") {
      rotary["low_freq_factor"] = scaling.low_freq_factor;
      rotary["high_freq_factor"] = scaling.high_freq_factor;
      rotary["original_max_position_embeddings"] = scaling.original_max_position_embeddings;
    }
    json_["rope_theta"] = model_.rope_theta;
    json_["rope_scaling"] = scaling.type == "none" ? ordered_json() : rotary;
    rotary["rope_theta"] = model_.rope_theta;
    if (traits_.partial_rotary) {
      rotary["partial_rotary_factor"] = model_.partial_rotary_factor;
      json_["partial_rotary_factor"] = model_.partial_rotary_factor;
    }
    json_["rope_parameters"] = std::move(rotary);
  }

  void write_attention() {
    json_["attention_dropout"] = 0.0;
    json_["attention_bias"] = traits_.qkv_bias_key != nullptr && model_.attention_bias;
    if (traits_.qkv_bias_key != nullptr) json_[traits_.qkv_bias_key] = model_.attention_bias;
    if (traits_.qk_norm_optional) json_["use_qk_norm"] = model_.qk_norm != "none";
    if (traits_.family == Family::kLlama) json_["mlp_bias"] = false;
    if (traits_.family == Family::kOlmoe) json_["clip_qkv"] = nullptr;
  }

  void write_window() {
    if (traits_.window == WindowKeys::kNone) return;
    const bool windowed = model_.sliding_window.has_value();
    json_["sliding_window"] = windowed ? ordered_json(*model_.sliding_window) : ordered_json();
    if (traits_.window == WindowKeys::kPlain) return;
    json_["use_sliding_window"] = windowed;
    json_["max_window_layers"] = windowed ? 0 : model_.num_hidden_layers;
    if (traits_.window == WindowKeys::kSwitched) return;
    json_["layer_types"] = std::vector<std::string>(
        model_.num_hidden_layers, windowed ? "sliding_attention" : "full_attention");
  }

  void write_moe() {
    json_[traits_.expert_width_key] = moe_.expert_intermediate_size;
    json_[traits_.num_experts_key] = moe_.num_experts;
    json_["num_experts_per_tok"] = moe_.top_k;
    if (!traits_.always_normalizes) json_["norm_topk_prob"] = normalizes();
    if (traits_.moe_layers == MoeLayers::kListed) write_listed_layers();
    if (traits_.moe_layers == MoeLayers::kAfterFirst)
      json_["first_k_dense_replace"] =
          model_.num_hidden_layers - static_cast<int64_t>(moe_layers_.size());
    write_shared_experts();
    json_["output_router_logits"] = false;
    if (traits_.sigmoid) {
      write_sigmoid_router();
    } else {
      json_["router_aux_loss_coef"] = balance_coefficient();
    }
    if (traits_.family == Family::kMixtral) json_["router_jitter_noise"] = 0.0;
  }

  bool normalizes() const { return moe_.router.normalize && moe_.router.type != "switch"; }

  void write_listed_layers() {
    std::vector<int64_t> dense;
    for (int64_t l = 0; l < model_.num_hidden_layers; ++l) {
      if (!std::binary_search(moe_layers_.begin(), moe_layers_.end(), l)) dense.push_back(l);
    }
    json_["decoder_sparse_step"] = 1;
    json_["mlp_only_layers"] = dense;
  }

  void write_shared_experts() {
    const int64_t width = moe_.shared_experts.num * moe_.shared_experts.intermediate_size;
    if (traits_.shared == SharedExpert::kGated) json_["shared_expert_intermediate_size"] = width;
    if (traits_.shared == SharedExpert::kPlain)
      json_["n_shared_experts"] = width / moe_.expert_intermediate_size;
  }

  void write_sigmoid_router() {
    json_["scoring_func"] = "sigmoid";
    json_["topk_method"] = "noaux_tc";
    json_["n_group"] = moe_.router.n_group;
    json_["topk_group"] = moe_.router.topk_group;
    json_["routed_scaling_factor"] = moe_.router.scaling_factor;
    json_["num_nextn_predict_layers"] = 0;
  }

  /// Of transformers' loss, which is K at balance where `topk` is 1. The others count
  /// first choices only and have no counterpart.
  double balance_coefficient() const {
    for (const BalanceConfig& balance : moe_.balance) {
      if (balance.type == "hf") return balance.coef;
      if (balance.type == "topk") return balance.coef / static_cast<double>(moe_.top_k);
    }
    return 0.0;
  }

  ordered_json carried_or(const char* key, ordered_json otherwise) const {
    const auto found = carried_.find(key);
    return found == carried_.end() || found->is_null() ? otherwise : ordered_json(*found);
  }

  /// Left out, these would be the family's defaults: another vocabulary's ids.
  void write_ids() {
    for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
      json_[key] = carried_or(key, nullptr);
    }
  }

  const FamilyTraits& traits_;
  const ModelConfig& model_;
  const MoeConfig& moe_;
  const json& carried_;
  const std::vector<int64_t> moe_layers_;
  ordered_json json_ = ordered_json::object();
};

}  // namespace

ordered_json hf_config_json(Family family, const ModelConfig& model, const MoeConfig& moe,
                            const std::string& dtype, const json& carried) {
  return ConfigWriter(traits_of(family), model, moe, carried).write(dtype);
}

}  // namespace switchyard
