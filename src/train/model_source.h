#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/named_files.h"
#include "checkpoint/tensor_source.h"
#include "config/run_config.h"
#include "data/dataset_meta.h"
#include "data/tokenizer.h"

namespace switchyard {

/// A trained model on a disk: a Switchyard checkpoint, or a Hugging Face folder.
struct ModelSource {
  RunConfig config;  // `model` and `moe` are the model's, autos resolved
  std::unique_ptr<TensorSource> tensors;
  int64_t step = 0;                 // optimizer steps that it was trained for, as far as known
  nlohmann::json state;             // manifest.h's `state`; an empty object for a folder
  std::optional<DatasetMeta> meta;  // its tokenizer; none: it came without
  /// What travels with the model, name and contents: meta.json and the tokenizer's files,
  /// Hugging Face's own (hf/hf_folder.h), "receipt.json" (how it was made).
  NamedFiles files;

  const std::string& path() const { return tensors->path(); }
  /// A file's contents, or null.
  const std::string* file(const std::string& name) const { return find_file(files, name); }
};

/// Opens what a checkpoint argument names: a step folder, a run folder (its latest), or a
/// Hugging Face folder. Throws DataError when there is no valid one. Local.
ModelSource open_model(const std::string& checkpoint);

/// The model's tokenizer. Throws DataError when it came without one, or with one that is
/// not built in.
std::unique_ptr<Tokenizer> model_tokenizer(const ModelSource& model);

}  // namespace switchyard
