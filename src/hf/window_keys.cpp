#include "hf/window_keys.h"

namespace switchyard {
namespace {

constexpr const char* kWindow = "sliding_window";
constexpr const char* kLayerTypes = "layer_types";
constexpr const char* kUniform =
    "Switchyard has one window for all layers; a model that mixes them cannot be imported";

enum class LayerTypes { kNotGiven, kFull, kSliding };

LayerTypes layer_types(const HfConfigReader& config, int64_t num_layers) {
  const nlohmann::json* types = config.find(kLayerTypes);
  if (types == nullptr) return LayerTypes::kNotGiven;
  if (!types->is_array() || static_cast<int64_t>(types->size()) != num_layers) {
    config.refuse(kLayerTypes, "it must be a list of a word for each of the " +
                                   std::to_string(num_layers) + " layers");
  }
  for (const nlohmann::json& type : *types) {
    if (type != "full_attention" && type != "sliding_attention") {
      config.refuse(kLayerTypes, "Switchyard's layers have full_attention or sliding_attention");
    }
    if (type != types->front()) config.refuse(kLayerTypes, kUniform);
  }
  return types->front() == "full_attention" ? LayerTypes::kFull : LayerTypes::kSliding;
}

std::optional<int64_t> given_window(const HfConfigReader& config) {
  if (config.find(kWindow) == nullptr) return std::nullopt;
  return config.count(kWindow, 1, kMaxHfPositions);
}

/// Qwen2's rule without layer_types: a window from layer max_window_layers on. Qwen2-MoE's
/// is none that both transformers agree on.
std::optional<int64_t> window_by_layer(const FamilyTraits& traits, const HfConfigReader& config,
                                       int64_t num_layers) {
  const std::optional<int64_t> window = given_window(config);
  if (!window) return std::nullopt;
  if (traits.window == WindowKeys::kLayerTypes) {
    config.refuse("use_sliding_window",
                  "transformers 4 and 5 give different layers a window; say which with "
                  "layer_types");
  }
  const int64_t first = config.count("max_window_layers", 0, kMaxHfPositions);
  if (first >= num_layers) return std::nullopt;
  if (first > 0) config.refuse("max_window_layers", kUniform);
  return window;
}

std::optional<int64_t> window_by_keys(const FamilyTraits& traits, const HfConfigReader& config,
                                      int64_t num_layers, LayerTypes types) {
  const bool used = config.flag("use_sliding_window", false);
  switch (traits.window) {
    case WindowKeys::kNone:
      if (config.gives(kWindow)) {
        config.refuse(kWindow, std::string(traits.label) +
                                   " has none: transformers ignores the key, other programs do "
                                   "not; remove it");
      }
      return std::nullopt;
    case WindowKeys::kPlain:
      return given_window(config);
    case WindowKeys::kSwitched:
      return used ? given_window(config) : std::nullopt;
    case WindowKeys::kFromLayer:
    case WindowKeys::kLayerTypes:
      break;
  }
  if (!used || types == LayerTypes::kFull) return std::nullopt;
  return types == LayerTypes::kSliding ? given_window(config)
                                       : window_by_layer(traits, config, num_layers);
}

}  // namespace

std::optional<int64_t> read_window(const FamilyTraits& traits, const HfConfigReader& config,
                                   int64_t num_layers) {
  const LayerTypes types = layer_types(config, num_layers);
  const std::optional<int64_t> window = window_by_keys(traits, config, num_layers, types);
  const LayerTypes ours = window ? LayerTypes::kSliding : LayerTypes::kFull;
  if (types != LayerTypes::kNotGiven && types != ours) {
    config.refuse(kLayerTypes, window ? "sliding_window gives every layer a window"
                                      : "there is no sliding_window for it");
  }
  return window;
}

}  // namespace switchyard
