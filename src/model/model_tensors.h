#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/run_config.h"

namespace switchyard {

/// A tensor that a model has: a parameter, or state of its routers.
struct ModelTensor {
  std::string name;  // "model.layers.3.mlp.experts.17.gate_proj.weight"
  std::vector<int64_t> shape;
  std::string kind;  // "dense", "expert", "state", as in manifest.h
};

/// Every tensor that a Decoder of this config registers, on one rank and with nothing
/// allocated, sorted by name. vocab_size, num_key_value_heads and head_dim are resolved.
std::vector<ModelTensor> model_tensors(const ModelConfig& model, const MoeConfig& moe);

}  // namespace switchyard
