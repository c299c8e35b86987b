#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "config/run_config.h"

namespace switchyard {

// The model families of Hugging Face that a Switchyard model can come from or become:
// what their config.json says and which name each tensor has on their disk. Native names
// are Qwen3-MoE's, so most of it is renaming; no family needs a tensor reshaped.

/// Every family, by config.json's `model_type`.
enum class Family {
  kLlama,
  kMistral,
  kQwen2,
  kQwen3,
  kMixtral,
  kQwen2Moe,
  kQwen3Moe,
  kOlmoe,
  kGlm4Moe
};

/// "llama", "qwen3_moe", ...: model_type, and the word of `export --format`.
const char* to_string(Family family);
/// Nothing for any other word.
std::optional<Family> parse_family(const std::string& word);
/// All words, for messages.
std::vector<std::string> family_words();

/// What a config.json says about the numbers.
struct HfModel {
  Family family = Family::kLlama;
  ModelConfig model;  // autos resolved
  MoeConfig moe;      // layers "none" in a dense model
  int64_t max_position_embeddings = 0;
  int64_t eos = 0;  // the first eos_token_id; 0 without one inside the vocabulary
};

/// Reads config.json as transformers 4.57 and 5.23 do, `rope_parameters` and the older
/// keys alike; a key that is left out has the family's default. Every key that changes the
/// numbers is taken over or refused, also where the two versions would read it differently:
/// throws DataError that names `origin`, the key, its value and what can be done. Training losses
/// of a MoE family become `moe.balance` of type `hf` with router_aux_loss_coef, no z-loss.
HfModel parse_hf_config(const nlohmann::json& config, const std::string& origin);

/// What keeps a model from being written as `family`, one reason for each; empty when it
/// can be. "the shared expert: Mixtral has none".
std::vector<std::string> obstacles(Family family, const ModelConfig& model, const MoeConfig& moe);

/// The family that `export --format auto` writes: `imported` if it is given and can
/// express the model, else the first of all that can. Throws ConfigError with the
/// obstacles of the nearest families when none can.
Family choose_family(std::optional<Family> imported, const ModelConfig& model,
                     const MoeConfig& moe);

/// config.json for transformers 4.57 and 5.23, vLLM and llama.cpp alike: every key that
/// formats differ in is written in each spelling. `carried`: the config.json that was
/// imported, whose keys that do not concern the numbers (bos/eos/pad ids,
/// max_position_embeddings) are kept; empty object without one: then the ids are null and
/// the positions 4096.
nlohmann::ordered_json hf_config_json(Family family, const ModelConfig& model, const MoeConfig& moe,
                                      const std::string& dtype, const nlohmann::json& carried);

/// The family's name for a native tensor, and back: a bijection. Native names that the
/// family has no place for (optimizer state, counts) give nothing, as do names on disk
/// that belong to no parameter (rotary inv_freq of old checkpoints).
std::optional<std::string> hf_name(Family family, const std::string& native);
std::optional<std::string> native_name(Family family, const std::string& hf);

}  // namespace switchyard
