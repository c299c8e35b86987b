#include "train/model_source.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/step_folder.h"
#include "config/load_config.h"
#include "hf/hf_folder.h"

namespace switchyard {
namespace {

constexpr const char* kMetaName = "meta.json";

/// Tokens per sequence of a model that nobody has trained here.
constexpr int64_t kDefaultSequenceLength = 1024;

ModelSource open_folder(const std::string& path) {
  ModelSource model;
  auto folder = std::make_unique<HfFolder>(path);
  model.config.model = folder->model().model;
  model.config.moe = folder->model().moe;
  model.config.data.sequence_length =
      std::min(folder->model().max_position_embeddings, kDefaultSequenceLength);
  model.state = nlohmann::json::object();
  model.files = folder->files();
  model.tensors = std::move(folder);
  return model;
}

ModelSource open_step(const std::string& step_dir) {
  ModelSource model;
  auto checkpoint = std::make_unique<CheckpointSource>(step_dir);
  const CheckpointReader& reader = checkpoint->reader();
  model.config = parse_config(reader.read_text(kConfigName), step_dir + "/" + kConfigName);
  model.step = reader.manifest().step;
  model.state = reader.manifest().state;
  for (const FileRecord& file : reader.manifest().files) {
    if (file.name != kConfigName) model.files.emplace_back(file.name, reader.read_text(file.name));
  }
  model.tensors = std::move(checkpoint);
  return model;
}

}  // namespace

ModelSource open_model(const std::string& checkpoint) {
  ModelSource model = is_hf_folder(checkpoint) ? open_folder(checkpoint)
                                               : open_step(resolve_checkpoint(checkpoint));
  if (const std::string* meta = model.file(kMetaName)) {
    const std::string path = model.path() + "/" + kMetaName;
    model.meta = dataset_meta_of(parse_json(*meta, path), path);
  }
  return model;
}

std::unique_ptr<Tokenizer> model_tokenizer(const ModelSource& model) {
  if (!model.meta) {
    throw DataError(model.path() +
                    ": this model came without a tokenizer; put its tokenizer.json beside it");
  }
  return load_dataset_tokenizer(model.path(), *model.meta);
}

}  // namespace switchyard
