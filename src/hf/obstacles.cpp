#include <algorithm>

#include "base/error.h"
#include "config/join.h"
#include "config/load_config.h"
#include "config/router_family.h"
#include "hf/family.h"
#include "hf/family_traits.h"

namespace switchyard {
namespace {

class ObstacleFinder {
 public:
  ObstacleFinder(const FamilyTraits& traits, const ModelConfig& model, const MoeConfig& moe)
      : traits_(traits),
        label_(traits.label),
        model_(model),
        moe_(moe),
        moe_layers_(moe_layer_indices(moe, model.num_hidden_layers)) {}

  std::vector<std::string> find() && {
    find_in_shape();
    find_in_attention();
    find_in_layers();
    if (traits_.is_moe() && !moe_layers_.empty()) {
      find_in_shared_experts();
      find_in_router();
    }
    return std::move(obstacles_);
  }

 private:
  void add_if(bool obstacle, const std::string& what, const std::string& why) {
    if (obstacle) obstacles_.push_back(what + ": " + why);
  }

  std::string has_none() const { return label_ + " has none"; }

  void find_in_shape() {
    add_if(activation_of_ffn(model_.ffn) == nullptr, "model.ffn " + model_.ffn,
           label_ + "'s feed-forward has a gate (swiglu, geglu)");
    const int64_t share = model_.hidden_size / model_.num_attention_heads;
    add_if(!traits_.free_head_dim && model_.head_dim != share,
           "model.head_dim " + std::to_string(model_.head_dim),
           label_ + "'s is hidden_size / num_attention_heads = " + std::to_string(share));
    add_if(traits_.family == Family::kLlama && model_.hidden_size % model_.num_attention_heads != 0,
           "model.hidden_size " + std::to_string(model_.hidden_size),
           "transformers wants a multiple of num_attention_heads in a Llama");
  }

  void find_in_attention() {
    const std::string& norm = model_.qk_norm;
    const bool may_be_none = traits_.qk_norm_optional && norm == "none";
    add_if(norm != traits_.qk_norm && !may_be_none, "model.qk_norm " + norm,
           label_ + "'s is " + traits_.qk_norm + (traits_.qk_norm_optional ? " or none" : ""));
    find_in_biases();
    add_if(model_.sliding_window.has_value() && traits_.window == WindowKeys::kNone,
           "model.sliding_window", has_none());
    add_if(model_.partial_rotary_factor != 1.0 && !traits_.partial_rotary,
           "model.partial_rotary_factor " + std::to_string(model_.partial_rotary_factor),
           label_ + " rotates whole heads");
  }

  void find_in_biases() {
    if (traits_.qkv_bias_key == nullptr && model_.attention_bias != traits_.qkv_bias) {
      add_if(true, model_.attention_bias ? "model.attention_bias" : "no model.attention_bias",
             traits_.qkv_bias ? label_ + " always has it" : has_none());
    }
    if (traits_.output_bias) {
      add_if(model_.attention_output_bias != model_.attention_bias,
             model_.attention_bias ? "model.attention_bias without attention_output_bias"
                                   : "model.attention_output_bias without attention_bias",
             label_ + " has both or neither");
    } else {
      add_if(model_.attention_output_bias, "model.attention_output_bias", has_none());
    }
  }

  void find_in_layers() {
    const auto count = static_cast<int64_t>(moe_layers_.size());
    const int64_t L = model_.num_hidden_layers;
    if (!traits_.is_moe()) {
      add_if(count > 0, "the mixture of experts", label_ + " is dense");
      return;
    }
    add_if(count == 0, "no mixture of experts", label_ + " is one");
    add_if(count > 0 && count < L && traits_.moe_layers == MoeLayers::kAll, "dense layers",
           has_none());
    add_if(count > 0 && moe_layers_.front() != L - count &&
               traits_.moe_layers == MoeLayers::kAfterFirst,
           "dense layers after the first mixture of experts", label_ + "'s come first");
  }

  void find_in_shared_experts() {
    const SharedExpertsConfig& shared = moe_.shared_experts;
    const bool wants = traits_.shared != SharedExpert::kNone;
    if (shared.num == 0 || !wants) {
      add_if(shared.num > 0, "the shared expert", has_none());
      add_if(wants, "no shared expert", label_ + " always has one");
      return;
    }
    const bool gated = traits_.shared == SharedExpert::kGated;
    add_if(shared.gated && !gated, "the shared expert's gate", has_none());
    add_if(!shared.gated && gated, "no gate at the shared expert", label_ + " always has one");
    const int64_t width = shared.num * shared.intermediate_size;
    add_if(!gated && width % moe_.expert_intermediate_size != 0,
           "a shared expert of width " + std::to_string(width),
           label_ + "'s is a multiple of an expert's " +
               std::to_string(moe_.expert_intermediate_size));
  }

  void find_in_router() {
    const RouterConfig& router = moe_.router;
    const bool sigmoid = traits_.sigmoid;
    const bool normalizes = router.normalize && router.type != "switch";
    const bool is_topk = is_topk_family(router.type);
    add_if(!is_topk, "moe.router.type " + router.type, has_none());
    if (!is_topk) return;
    add_if(router.logit_normalization > 0, "moe.router.logit_normalization", has_none());
    add_if((router.score == "sigmoid") != sigmoid, "moe.router.score " + router.score,
           label_ + "'s is " + (sigmoid ? "sigmoid" : "softmax"));
    add_if(traits_.always_normalizes && !normalizes, "weights that do not sum to 1",
           label_ + "'s always do (moe.router.normalize)");
    add_if(!sigmoid && router.scaling_factor != 1.0, "moe.router.scaling_factor", has_none());
    add_if(!sigmoid && router.selection_bias, "moe.router.selection_bias", has_none());
    add_if(sigmoid && !router.selection_bias, "no moe.router.selection_bias",
           label_ + " always has one");
    add_if(!sigmoid && router.n_group > 1, "moe.router.n_group", has_none());
    add_if(sigmoid && router.n_group > 1 && router.group_score != "top2_sum",
           "moe.router.group_score " + router.group_score, label_ + "'s is top2_sum");
    add_if(moe_.capacity.eval_factor.has_value(), "moe.capacity.eval_factor",
           label_ + " drops no tokens; set it to null");
  }

  const FamilyTraits& traits_;
  const std::string label_;
  const ModelConfig& model_;
  const MoeConfig& moe_;
  const std::vector<int64_t> moe_layers_;
  std::vector<std::string> obstacles_;
};

}  // namespace

std::vector<std::string> obstacles(Family family, const ModelConfig& model, const MoeConfig& moe) {
  return ObstacleFinder(traits_of(family), model, moe).find();
}

Family choose_family(std::optional<Family> imported, const ModelConfig& model,
                     const MoeConfig& moe) {
  if (imported && obstacles(*imported, model, moe).empty()) return *imported;
  struct Candidate {
    const FamilyTraits* traits;
    std::vector<std::string> obstacles;
  };
  std::vector<Candidate> candidates;
  for (const FamilyTraits& traits : all_families()) {
    candidates.push_back({&traits, obstacles(traits.family, model, moe)});
    if (candidates.back().obstacles.empty()) return traits.family;
  }
  std::ranges::stable_sort(candidates, {}, [](const Candidate& c) { return c.obstacles.size(); });
  constexpr size_t kShown = 3;
  std::string message = "no Hugging Face family can express this model; the nearest are";
  for (size_t i = 0; i < kShown; ++i) {
    message += std::string("\n  ") + candidates[i].traits->model_type + ": " +
               join(candidates[i].obstacles, "; ");
  }
  throw ConfigError(message);
}

}  // namespace switchyard
