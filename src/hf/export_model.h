#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "checkpoint/tensor_source.h"
#include "hf/family.h"
#include "hf/model_card.h"
#include "hf/tokenizer_files.h"

namespace switchyard {

/// How a model is written for Hugging Face.
struct ExportOptions {
  Family family = Family::kLlama;
  std::optional<at::ScalarType> dtype;  // of the weights; none: as they are stored
  uint64_t shard_bytes = 5'000'000'000;
};

/// What goes into the folder besides tensors.
struct ExportFacts {
  ModelConfig model;
  MoeConfig moe;
  int64_t sequence_length = 0;  // that the model was trained on; 0: unknown
  NamedFiles files;             // as HfFolder::files gives them
  std::string receipt;          // Markdown for the model card: how the model was made
};

/// What was written.
struct ExportSummary {
  uint64_t tensors = 0;
  uint64_t bytes = 0;   // of tensors
  size_t shards = 0;    // files that hold them
  std::string warning;  // why there is no tokenizer.json; empty: there is one
};

/// The family of the folder that a model with these files was imported from; none when it
/// was not, or from a family that is not known.
std::optional<Family> imported_family(const NamedFiles& files);

/// Throws ConfigError with every obstacle that keeps the model from being written as
/// `family`, and the family that could be written instead.
void require_expressible(Family family, const ModelConfig& model, const MoeConfig& moe);

/// Writes `out` (which must not exist) as a folder that transformers, vLLM and llama.cpp
/// load: config.json, generation_config.json, model.safetensors or shards with an index,
/// the tokenizer's files, README.md. A few MiB of a tensor are in memory at a time. Weights
/// come from NAME.master where a float32 export of a bfloat16 run wants them;
/// e_score_correction_bias stays float32.
///
/// The folder is made as `out`.tmp-<id> and renamed when all of it is on the disk, so a
/// kill leaves nothing at `out`; what it leaves beside it nobody takes for a model.
///
/// Local: one rank calls. Throws ConfigError when `out` is there and as
/// require_expressible; DataError when the disk or a tensor fails: then neither `out` nor the
/// temporary folder is there.
ExportSummary export_model(TensorSource& source, const ExportFacts& facts,
                           const ExportOptions& options, const std::string& out);

}  // namespace switchyard
