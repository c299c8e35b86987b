#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/tensor_source.h"
#include "hf/family.h"

namespace switchyard {

/// How a model is written for Hugging Face.
struct ExportOptions {
  Family family = Family::kLlama;
  std::optional<at::ScalarType> dtype;  // of the weights; none: as they are stored
  uint64_t shard_bytes = uint64_t{5} << 30;
};

/// What goes into the folder besides tensors.
struct ExportFacts {
  ModelConfig model;
  MoeConfig moe;
  std::vector<std::pair<std::string, std::string>> files;  // as HfFolder::files gives them
  std::string receipt;  // Markdown for the model card: how the model was made
};

/// Writes `out` (which must not exist) as a folder that transformers, vLLM and llama.cpp
/// load: config.json, generation_config.json, model.safetensors or shards with an index,
/// the tokenizer's files, README.md. One tensor in memory at a time; the folder appears
/// under its name only when all of it is on the disk. Weights come from NAME.master where
/// a float32 export of a bfloat16 run wants them; e_score_correction_bias stays float32.
///
/// Local: rank 0 writes. Throws ConfigError with every obstacle, and the family that could
/// be written instead; DataError when the disk or a tensor fails, and `out` is not there.
void export_model(TensorSource& source, const ExportFacts& facts, const ExportOptions& options,
                  const std::string& out);

}  // namespace switchyard
