#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/named_files.h"
#include "base/safetensors.h"
#include "checkpoint/tensor_source.h"
#include "hf/family.h"

namespace switchyard {

/// Whether a path is a folder with a config.json, which no Switchyard folder has.
bool is_hf_folder(const std::string& path);

/// A Hugging Face folder: config.json and model.safetensors, or
/// model-0000N-of-0000M.safetensors with model.safetensors.index.json; the tokenizer's
/// files where it has them. Tensors come under native names, with native kinds, in the
/// dtype that they are stored in (F32, BF16, F16); files are mapped and read on demand.
///
/// Opening refuses (DataError, naming file and tensor): a config that cannot be honoured,
/// an index that names files outside the folder, missing or damaged files, a tensor in two
/// files or in another than the index says, and any tensor that the model of config.json
/// lacks, has too many, or has in another shape. Too many are not what transformers leaves
/// out as well: rotary inv_freq of old checkpoints, GLM4-MoE's layers behind the last, and
/// a tied lm_head that is the embedding bit for bit. pickle files are never opened: the
/// message says how to convert them.
class HfFolder : public TensorSource {
 public:
  explicit HfFolder(const std::string& path);

  const HfModel& model() const { return model_; }
  const nlohmann::json& config() const { return config_; }

  /// What travels with the model besides tensors, name and contents: config.json as
  /// "hf_config.json", generation_config.json, tokenizer.json, tokenizer_config.json,
  /// special_tokens_map.json, chat_template.jinja, as far as they are there, and, with a
  /// tokenizer.json, a meta.json (data/dataset_meta.h) that names it. Reads the tokenizer:
  /// one that is not built in is warned about.
  NamedFiles files() const;

  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  using TensorSource::read;
  void read(const TensorInfo& tensor, Interval range, void* out) override;
  const std::string& path() const override { return path_; }

 private:
  std::string path_;
  nlohmann::json config_;
  HfModel model_;
  std::vector<std::unique_ptr<SafetensorsReader>> shards_;
  std::vector<TensorInfo> tensors_;
  struct Place {
    size_t shard;
    const TensorEntry* entry;
  };
  std::unordered_map<std::string, Place> places_;  // by native name
};

}  // namespace switchyard
