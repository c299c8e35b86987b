#include "hf/rotary_keys.h"

#include <cmath>

namespace switchyard {
namespace {

constexpr const char* kOriginalPositions = "original_max_position_embeddings";
constexpr const char* kPartial = "partial_rotary_factor";

/// `rope_scaling` goes first when both are there.
const char* rotary_object(const HfConfigReader& config) {
  const nlohmann::json* scaling = config.find("rope_scaling");
  return scaling != nullptr && !scaling->empty() ? "rope_scaling" : "rope_parameters";
}

/// A number that may be in the rotary object, beside it, or in both if they agree.
double number(const HfConfigReader& config, const HfConfigReader& rotary, const char* key,
              double otherwise) {
  if (!rotary.gives(key)) return config.above(key, 0, otherwise);
  const double inside = rotary.above(key, 0);
  if (config.gives(key) && config.above(key, 0) != inside) {
    rotary.refuse(key,
                  "config.json has another one beside it, and transformers 4 takes that, "
                  "transformers 5 this; make them the same");
  }
  return inside;
}

std::string rotary_type(const HfConfigReader& rotary) {
  const std::string older = rotary.word("type", "default"), type = rotary.word("rope_type", older);
  if (rotary.gives("type") && older != type) {
    rotary.refuse("type", "rope_type is \"" + type + "\"; make them the same");
  }
  return type;
}

void refuse_nested(const HfConfigReader& rotary) {
  for (const char* type : {"full_attention", "sliding_attention"}) {
    if (rotary.gives(type)) {
      rotary.refuse(type, "Switchyard has one rotary embedding for all layers");
    }
  }
}

/// When both objects are there, they must say the same.
void refuse_contradiction(const HfConfigReader& config) {
  const nlohmann::json *scaling = config.find("rope_scaling"),
                       *all = config.find("rope_parameters");
  if (scaling == nullptr || all == nullptr || scaling->empty() || all->empty()) return;
  const HfConfigReader older = config.inside("rope_scaling"),
                       newer = config.inside("rope_parameters");
  if (rotary_type(older) != rotary_type(newer)) {
    config.refuse("rope_scaling", "rope_parameters says something else; remove one of them");
  }
  for (const auto& [key, value] : scaling->items()) {
    if (all->contains(key) && all->at(key) != value) {
      older.refuse(key, "rope_parameters has another one; make them the same");
    }
  }
}

void check_partial(const FamilyTraits& traits, const HfConfigReader& reader,
                   const ModelConfig& model) {
  const double factor = model.partial_rotary_factor;
  if (factor != 1.0 && !traits.partial_rotary) {
    reader.refuse(kPartial,
                  std::string(traits.label) + " rotates whole heads; only 1.0 can be read");
  }
  if (factor > 1.0) reader.refuse(kPartial, "it must be at most 1");
  const auto rotated = static_cast<int64_t>(static_cast<double>(model.head_dim) * factor);
  if (rotated < 2 || rotated % 2 != 0) {
    reader.refuse(kPartial, "of a head of " + std::to_string(model.head_dim) +
                                " numbers it rotates " + std::to_string(rotated) +
                                ", and RoPE turns pairs");
  }
}

void read_llama3(const HfConfigReader& config, const HfConfigReader& rotary,
                 RopeScalingConfig& scaling) {
  scaling.low_freq_factor = rotary.above("low_freq_factor", 0);
  scaling.high_freq_factor = rotary.above("high_freq_factor", scaling.low_freq_factor);
  const bool inside = rotary.gives(kOriginalPositions), beside = config.gives(kOriginalPositions);
  const int64_t positions =
      inside ? rotary.count(kOriginalPositions, 1, kMaxHfPositions)
             : config.count(beside ? kOriginalPositions : "max_position_embeddings", 1,
                            kMaxHfPositions);
  if (inside && beside && config.count(kOriginalPositions, 1, kMaxHfPositions) != positions) {
    config.refuse(kOriginalPositions, "the rotary parameters have another one; make them the same");
  }
  scaling.original_max_position_embeddings = positions;
}

}  // namespace

void read_rotary_keys(const FamilyTraits& traits, const HfConfigReader& config,
                      ModelConfig& model) {
  const HfConfigReader rotary = config.inside(rotary_object(config));
  refuse_nested(rotary);
  refuse_contradiction(config);
  model.rope_theta = number(config, rotary, "rope_theta", 10000.0);
  model.partial_rotary_factor = number(config, rotary, kPartial, 1.0);
  check_partial(traits, rotary.gives(kPartial) ? rotary : config, model);

  const std::string type = rotary_type(rotary);
  const double factor = rotary.above("factor", 0, 1.0);
  if (type == "default") {
    if (factor != 1.0) rotary.refuse("factor", "it has no meaning without a rope_type");
    return;
  }
  if (type != "linear" && type != "llama3") {
    rotary.refuse(rotary.gives("rope_type") ? "rope_type" : "type",
                  "Switchyard has default, linear and llama3");
  }
  if (!rotary.gives("factor") || factor < 1.0) {
    rotary.refuse("factor", "it must be a number of at least 1");
  }
  model.rope_scaling.type = type;
  model.rope_scaling.factor = factor;
  if (type == "llama3") read_llama3(config, rotary, model.rope_scaling);
}

}  // namespace switchyard
