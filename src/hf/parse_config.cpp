#include <algorithm>

#include "base/error.h"
#include "config/join.h"
#include "hf/config_reader.h"
#include "hf/family.h"
#include "hf/family_traits.h"
#include "hf/rotary_keys.h"
#include "hf/window_keys.h"

namespace switchyard {
namespace {

using nlohmann::json;

// Bounds that keep every size of a model within int64_t, and a list of its tensors within
// memory, whatever a hostile file says.
constexpr int64_t kMaxVocabulary = INT32_MAX, kMaxHidden = int64_t{1} << 20,
                  kMaxWidth = int64_t{1} << 22, kMaxExperts = int64_t{1} << 16,
                  kMaxLayers = 100'000, kMaxLayerExperts = 200'000,
                  kMaxHfPositions = int64_t{1} << 40;

class ConfigParser {
 public:
  ConfigParser(const FamilyTraits& traits, const json& config, const std::string& origin)
      : traits_(traits),
        defaults_(json::parse(traits.defaults)),
        reader_(config, defaults_, origin) {}

  HfModel parse() {
    model_.family = traits_.family;
    refuse_foreign_numbers();
    read_shape();
    read_attention();
    read_rotary_keys(traits_, reader_, model_.model);
    model_.model.sliding_window = read_window(traits_, reader_, model_.model.num_hidden_layers);
    read_moe();
    read_ids();
    return model_;
  }

 private:
  /// A key that changes the numbers and has no counterpart here must have no effect.
  void refuse_foreign_numbers() const {
    for (const char* key : {"quantization_config", "compression_config"}) {
      if (reader_.gives(key)) {
        reader_.refuse(key,
                       "quantized weights cannot be read; take the original checkpoint, or save a "
                       "dequantized one with transformers (model.dequantize())");
      }
    }
    if (reader_.flag("mlp_bias", false)) {
      reader_.refuse("mlp_bias", "Switchyard's feed-forward has no biases; only false can be read");
    }
    if (!reader_.flag("is_causal", true)) {
      reader_.refuse("is_causal", "Switchyard's attention is causal; only true can be read");
    }
    if (reader_.find("clip_qkv") != nullptr) {
      reader_.refuse("clip_qkv",
                     "Switchyard does not clip queries, keys and values; only null can be read");
    }
    refuse_unless_zero("attention_dropout",
                       "Switchyard has no dropout inside attention; set it to 0.0, which changes "
                       "training only (model.dropout is on the residual branches)");
    refuse_unless_zero("router_jitter_noise",
                       "transformers lets it scale what the experts see, Switchyard's "
                       "moe.router.jitter_eps only what the router sees; set it to 0.0, which "
                       "changes training only");
    refuse_other_word("scoring_func", "sigmoid");
    refuse_other_word("topk_method", "noaux_tc");
  }

  void refuse_unless_zero(const char* key, const char* why) const {
    const json* value = reader_.find(key);
    if (value == nullptr || (value->is_number() && value->get<double>() == 0.0)) return;
    reader_.refuse(key, why);
  }

  /// GLM4-MoE's router is DeepSeek-V3's, whose config can name others.
  void refuse_other_word(const char* key, const char* only) const {
    if (!traits_.sigmoid || reader_.word(key, only) == only) return;
    reader_.refuse(key, std::string(traits_.label) + " has " + only + " and no other");
  }

  void read_shape() {
    ModelConfig& model = model_.model;
    model.vocab_size = reader_.count("vocab_size", 1, kMaxVocabulary);
    model.hidden_size = reader_.count("hidden_size", 1, kMaxHidden);
    model.intermediate_size = reader_.count("intermediate_size", 1, kMaxWidth);
    model.num_hidden_layers = reader_.count("num_hidden_layers", 1, kMaxLayers);
    model.rms_norm_eps = reader_.above("rms_norm_eps", 0);
    model.init_std = reader_.above("initializer_range", 0, model.init_std);
    model.tie_word_embeddings = reader_.flag("tie_word_embeddings", false);
    const char* ffn = ffn_of_activation(reader_.word("hidden_act", "silu"));
    if (ffn == nullptr) {
      reader_.refuse("hidden_act", "Switchyard has silu (swiglu) and the exact gelu (geglu)");
    }
    model.ffn = ffn;
  }

  void read_heads() {
    ModelConfig& model = model_.model;
    const int64_t heads = reader_.count("num_attention_heads", 1, kMaxWidth);
    model.num_attention_heads = heads;
    model.num_key_value_heads = reader_.find("num_key_value_heads") == nullptr
                                    ? heads
                                    : reader_.count("num_key_value_heads", 1, heads);
    if (heads % model.num_key_value_heads != 0) {
      reader_.refuse("num_key_value_heads",
                     "it must divide num_attention_heads " + std::to_string(heads));
    }
    const int64_t even_share = model.hidden_size / heads;
    const bool given = reader_.find("head_dim") != nullptr;
    model.head_dim = given ? reader_.count("head_dim", 1, kMaxWidth / heads) : even_share;
    if (model.head_dim < 2 || model.head_dim % 2 != 0) {
      reader_.refuse(given ? "head_dim" : "num_attention_heads",
                     "a head of " + std::to_string(model.head_dim) +
                         " numbers cannot be rotated by RoPE, which turns pairs");
    }
    if (!traits_.free_head_dim && model.head_dim != even_share) {
      reader_.refuse("head_dim", std::string(traits_.label) +
                                     " has hidden_size / num_attention_heads = " +
                                     std::to_string(even_share) + " and no other");
    }
  }

  void read_attention() {
    read_heads();
    ModelConfig& model = model_.model;
    model.qk_norm = traits_.qk_norm;
    if (traits_.qk_norm_optional && !reader_.flag("use_qk_norm", false)) model.qk_norm = "none";
    model.attention_bias = traits_.qkv_bias_key == nullptr
                               ? traits_.qkv_bias
                               : reader_.flag(traits_.qkv_bias_key, false);
    model.attention_output_bias = traits_.output_bias && model.attention_bias;
    const bool never = traits_.qkv_bias_key == nullptr && !traits_.qkv_bias;
    if (never && reader_.flag("attention_bias", false)) {
      reader_.refuse("attention_bias", std::string(traits_.label) +
                                           " has no such biases; set it to "
                                           "false if the tensors have none");
    }
  }

  void read_moe() {
    MoeConfig& moe = model_.moe;
    moe.layers = "none";
    if (!traits_.is_moe()) return;
    moe.balance.clear();
    moe.z_loss.coef = 0.0;
    const int64_t experts = num_experts();
    const std::vector<int64_t> layers = experts == 0 ? std::vector<int64_t>{} : moe_layers();
    moe.layers = moe_layers_text(layers, model_.model.num_hidden_layers);
    moe.expert_intermediate_size = reader_.count(traits_.expert_width_key, 1, kMaxWidth);
    if (experts == 0) return;
    moe.num_experts = experts;
    moe.top_k = reader_.count("num_experts_per_tok", 1, experts);
    if (static_cast<int64_t>(layers.size()) * experts > kMaxLayerExperts) {
      reader_.refuse(traits_.num_experts_key, "with these layers the model has more than " +
                                                  std::to_string(kMaxLayerExperts) + " experts");
    }
    moe.router.normalize = traits_.always_normalizes || reader_.flag("norm_topk_prob", false);
    if (traits_.sigmoid) read_sigmoid_router();
    read_shared_experts();
    read_balance();
  }

  /// The families call it by three names and transformers takes most of them for others.
  int64_t num_experts() const {
    const int64_t least = traits_.moe_layers == MoeLayers::kListed ? 0 : 1;
    std::string from;
    int64_t experts = 0;
    for (const char* key : {"num_experts", "num_local_experts", "n_routed_experts"}) {
      if (!reader_.gives(key)) continue;
      const int64_t number = reader_.count(key, least, kMaxExperts);
      if (!from.empty() && number != experts) {
        reader_.refuse(key, from + " is " + std::to_string(experts) + "; make them the same");
      }
      from = key;
      experts = number;
    }
    return from.empty() ? reader_.count(traits_.num_experts_key, least, kMaxExperts) : experts;
  }

  std::vector<int64_t> moe_layers() const {
    const int64_t L = model_.model.num_hidden_layers;
    int64_t first = 0, step = 1;
    if (traits_.moe_layers == MoeLayers::kAfterFirst)
      first = reader_.count("first_k_dense_replace", 0, kMaxLayers);
    if (traits_.moe_layers == MoeLayers::kListed)
      step = reader_.count("decoder_sparse_step", 1, kMaxLayers);
    const std::vector<bool> dense = dense_layers();
    std::vector<int64_t> layers;
    for (int64_t l = first; l < L; ++l) {
      if ((l + 1) % step == 0 && !dense[l]) layers.push_back(l);
    }
    return layers;
  }

  std::vector<bool> dense_layers() const {
    std::vector<bool> dense(model_.model.num_hidden_layers, false);
    const char* key = "mlp_only_layers";
    const json* listed = reader_.find(key);
    if (traits_.moe_layers != MoeLayers::kListed || listed == nullptr) return dense;
    if (!listed->is_array()) reader_.refuse(key, "it must be a list of layers");
    for (const json& layer : *listed) {
      if (!layer.is_number_integer()) reader_.refuse(key, "it must be a list of layers");
      const auto index = layer.get<int64_t>();
      if (index >= 0 && index < model_.model.num_hidden_layers) dense[index] = true;
    }
    return dense;
  }

  void read_sigmoid_router() {
    RouterConfig& router = model_.moe.router;
    const int64_t experts = model_.moe.num_experts;
    router.score = "sigmoid";
    router.selection_bias = true;
    router.scaling_factor = reader_.above("routed_scaling_factor", 0);
    router.n_group = reader_.count("n_group", 1, experts);
    router.topk_group = reader_.count("topk_group", 1, router.n_group);
    router.group_score = "top2_sum";
    if (router.n_group == 1) return;
    const int64_t per_group = experts / router.n_group;
    if (experts % router.n_group != 0 || per_group < 2) {
      reader_.refuse("n_group", "it must share " + std::to_string(experts) +
                                    " experts out evenly, two or more to a group");
    }
    if (router.topk_group * per_group < model_.moe.top_k) {
      reader_.refuse("topk_group", "its groups hold fewer experts than num_experts_per_tok");
    }
  }

  void read_shared_experts() {
    SharedExpertsConfig& shared = model_.moe.shared_experts;
    if (traits_.shared == SharedExpert::kGated) {
      shared = {1, reader_.count("shared_expert_intermediate_size", 1, kMaxWidth), true};
    } else if (traits_.shared == SharedExpert::kPlain) {
      const int64_t width = model_.moe.expert_intermediate_size;
      shared = {reader_.count("n_shared_experts", 1, std::max<int64_t>(kMaxWidth / width, 1)),
                width, false};
    }
  }

  void read_balance() {
    const char* key = "router_aux_loss_coef";
    if (reader_.find(key) == nullptr) return;
    const double coef = reader_.above(key, -1.0);
    if (coef < 0) reader_.refuse(key, "it must not be negative");
    if (coef == 0) return;
    BalanceConfig balance;
    balance.type = "hf";
    balance.coef = coef;
    model_.moe.balance = {balance};
  }

  void read_ids() {
    model_.max_position_embeddings = reader_.count("max_position_embeddings", 1, kMaxHfPositions);
    const json* eos = reader_.find("eos_token_id");
    if (eos != nullptr && eos->is_array()) eos = eos->empty() ? nullptr : &eos->front();
    if (eos == nullptr || !eos->is_number_integer()) return;
    const auto id = eos->get<int64_t>();
    if (id >= 0 && id < model_.model.vocab_size) model_.eos = id;
  }

  const FamilyTraits& traits_;
  const json defaults_;
  const HfConfigReader reader_;
  HfModel model_;
};

}  // namespace

HfModel parse_hf_config(const json& config, const std::string& origin) {
  if (!config.is_object()) throw DataError(origin + ": not a JSON object");
  const json none = json::object();
  const HfConfigReader reader(config, none, origin);
  const std::optional<Family> family = parse_family(reader.word("model_type", ""));
  if (!family) {
    reader.refuse("model_type", "Switchyard reads " + join(family_words(), ", "));
  }
  return ConfigParser(traits_of(*family), config, origin).parse();
}

}  // namespace switchyard
