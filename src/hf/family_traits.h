#pragma once

#include <nlohmann/json.hpp>

#include "hf/family.h"

namespace switchyard {

/// Which decoder layers of a family are mixtures of experts.
enum class MoeLayers {
  kNone,
  kAll,
  kListed,     // decoder_sparse_step and mlp_only_layers
  kAfterFirst  // all but first_k_dense_replace
};

/// How a family says that attention reaches back a number of positions only.
enum class WindowKeys {
  kNone,
  kPlain,       // sliding_window
  kSwitched,    // and use_sliding_window
  kFromLayer,   // and max_window_layers: only layers from there on; or layer_types
  kLayerTypes,  // layer_types alone: without them every second layer
};

enum class SharedExpert { kNone, kGated, kPlain };

/// What sets one family apart from the next. Reading, writing, names and obstacles all
/// ask this, so that a family is one row of a table.
struct FamilyTraits {
  Family family;
  const char* model_type;
  const char* label;  // in messages: "Qwen2-MoE"
  const char* architecture;

  const char* qkv_bias_key;  // the key that gives q, k and v biases; null: `qkv_bias`, always
  bool qkv_bias;
  bool output_bias;  // whether that key gives o_proj one, too
  const char* qk_norm;
  bool qk_norm_optional;  // use_qk_norm decides
  WindowKeys window;
  bool free_head_dim;  // head_dim may be another than hidden_size / heads
  bool partial_rotary;

  MoeLayers moe_layers;
  const char* num_experts_key;
  const char* expert_width_key;
  SharedExpert shared;
  bool always_normalizes;
  bool sigmoid;  // DeepSeek-V3's router: sigmoid, selection bias, groups, scaling factor

  /// What transformers takes for a key that config.json leaves out: a JSON object. 4.57.6
  /// and 5.23.0 agree on all of it.
  const char* defaults;

  bool is_moe() const { return moe_layers != MoeLayers::kNone; }
};

const FamilyTraits& traits_of(Family family);
const std::vector<FamilyTraits>& all_families();

/// `hidden_act` of a gated feed-forward and `model.ffn`; null for words that have no
/// counterpart.
const char* ffn_of_activation(const std::string& hidden_act);
const char* activation_of_ffn(const std::string& ffn);

/// `moe.layers` of a model of `num_layers` layers: "all", "none" or "1,3".
std::string moe_layers_text(const std::vector<int64_t>& layers, int64_t num_layers);

}  // namespace switchyard
