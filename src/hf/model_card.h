#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "config/run_config.h"

namespace switchyard {

/// README.md of a folder for Hugging Face: what the model is, how it is loaded, and
/// `receipt`, Markdown that says how it was made. `name` is the folder's, `config` its
/// config.json.
std::string model_card(const std::string& name, const nlohmann::ordered_json& config,
                       const ModelConfig& model, const MoeConfig& moe, const std::string& receipt);

}  // namespace switchyard
