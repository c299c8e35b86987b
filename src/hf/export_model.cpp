#include "hf/export_model.h"

#include <algorithm>
#include <filesystem>
#include <functional>

#include "base/error.h"
#include "base/failpoint.h"
#include "base/file.h"
#include "base/json.h"
#include "checkpoint/step_folder.h"
#include "data/dataset_meta.h"
#include "hf/tensor_files.h"
#include "model/model_tensors.h"

namespace switchyard {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr const char* kCarriedConfigName = "hf_config.json";
constexpr const char* kGenerationName = "generation_config.json";
constexpr const char* kMetaName = "meta.json";
constexpr const char* kEmbedding = "model.embed_tokens.weight";

/// Where a tensor of the model comes from and what it is to be called.
OutgoingTensor outgoing(const TensorSource& source, const ModelTensor& tensor,
                        const ExportOptions& options) {
  const TensorInfo& stored = source.at(tensor.name);
  const std::string where = source.path() + ": tensor \"" + tensor.name + "\"";
  if (stored.shape != tensor.shape) throw DataError(where + " has another shape than the model's");
  const std::optional<std::string> name = hf_name(options.family, tensor.name);
  if (!name) throw DataError(where + " has no place in " + to_string(options.family));
  OutgoingTensor out{*name, tensor.name, stored.dtype, stored.shape};
  if (tensor.kind == "state" || !options.dtype) return out;
  out.dtype = dtype_name(*options.dtype);
  if (options.dtype == at::kFloat) out.origin = best_name(source, tensor.name);
  return out;
}

/// The word of config.json for the dtype of the embeddings.
std::string dtype_word(const std::vector<OutgoingTensor>& tensors) {
  for (const OutgoingTensor& tensor : tensors) {
    if (tensor.name != kEmbedding) continue;
    return tensor.dtype == "F32" ? "float32" : tensor.dtype == "F16" ? "float16" : "bfloat16";
  }
  return "float32";
}

/// The config.json that the model came with, or else what the run knows of the same.
json carried_config(const ExportFacts& facts) {
  if (const std::string* text = find_file(facts.files, kCarriedConfigName)) {
    return parse_json(*text, kCarriedConfigName);
  }
  json carried = json::object();
  if (facts.sequence_length > 0) carried["max_position_embeddings"] = facts.sequence_length;
  if (const std::string* text = find_file(facts.files, kMetaName)) {
    const int64_t eos = dataset_meta_of(parse_json(*text, kMetaName), kMetaName).eos;
    carried["eos_token_id"] = eos;
  }
  return carried;
}

std::string generation_config(const NamedFiles& files, const ordered_json& config) {
  if (const std::string* text = find_file(files, kGenerationName)) return *text;
  ordered_json generation = {{"_from_model_config", true}};
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
    if (config.contains(key) && !config[key].is_null()) generation[key] = config[key];
  }
  return generation.dump(2) + "\n";
}

void write_new_file(const std::string& path, const std::string& contents) {
  FileWriter file(path, OpenMode::kCreateNew);
  file.append(contents);
  file.fsync();
  file.close();
}

/// Fills a new folder beside `out` and renames it; whatever fails, neither is left.
void publish(const std::string& out, const std::function<void(const std::string& folder)>& fill) {
  const std::string parent = folder_of(out);
  make_folders(parent);
  std::string made = out + ".tmp-" + random_save_id();
  make_folder(made);
  try {
    fill(made);
    sync_folder(made);
    failpoint("export.publish");
    rename_path(made, out);
    made = out;
    sync_folder(parent);
  } catch (...) {
    try {
      remove_tree(made);
    } catch (const DataError&) {  // the failure before is the one to tell
    }
    throw;
  }
}

}  // namespace

std::optional<Family> imported_family(const NamedFiles& files) {
  const std::string* text = find_file(files, kCarriedConfigName);
  if (text == nullptr) return std::nullopt;
  return parse_family(parse_json(*text, kCarriedConfigName).value("model_type", ""));
}

void require_expressible(Family family, const ModelConfig& model, const MoeConfig& moe) {
  const std::vector<std::string> reasons = obstacles(family, model, moe);
  if (reasons.empty()) return;
  std::string message = std::string("the model cannot be written as ") + to_string(family) + ":";
  for (const std::string& reason : reasons) message += "\n  " + reason;
  try {
    const Family other = choose_family(std::nullopt, model, moe);
    message += std::string("\nuse --format ") + to_string(other) + ", which can express it";
  } catch (const ConfigError& none) {
    message += std::string("\n") + none.what();
  }
  throw ConfigError(message);
}

ExportSummary export_model(TensorSource& source, const ExportFacts& facts,
                           const ExportOptions& options, const std::string& out) {
  require_expressible(options.family, facts.model, facts.moe);
  if (path_exists(out)) {
    throw ConfigError("--out: " + out + " is there already; name a new folder, or remove it");
  }
  std::vector<OutgoingTensor> tensors;
  for (const ModelTensor& tensor : model_tensors(facts.model, facts.moe)) {
    tensors.push_back(outgoing(source, tensor, options));
  }
  const TokenizerFiles tokenizer = tokenizer_files(facts.files);
  const ordered_json config = hf_config_json(options.family, facts.model, facts.moe,
                                             dtype_word(tensors), carried_config(facts));
  NamedFiles files = tokenizer.files;
  files.emplace_back("config.json", config.dump(2) + "\n");
  files.emplace_back(kGenerationName, generation_config(facts.files, config));
  files.emplace_back("README.md", model_card(std::filesystem::path(out).filename().string(), config,
                                             facts.model, facts.moe, facts.receipt));
  ExportSummary summary{tensors.size(), 0, 0, tokenizer.missing};
  publish(out, [&](const std::string& folder) {
    for (const auto& [name, contents] : files) write_new_file(folder + "/" + name, contents);
    const TensorFiles written = write_tensor_files(source, tensors, options.shard_bytes, folder);
    failpoint("export.tensors");
    summary.bytes = written.bytes;
    summary.shards = written.names.size();
  });
  return summary;
}

}  // namespace switchyard
