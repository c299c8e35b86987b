#include "hf/hf_folder.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "base/checksum.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "config/join.h"
#include "data/dataset_meta.h"
#include "data/tokenizer.h"
#include "model/model_tensors.h"

namespace switchyard {
namespace {

constexpr const char* kConfig = "config.json";
constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kTokenizer = "tokenizer.json";
constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";
constexpr uint64_t kMaxConfigBytes = uint64_t{16} << 20, kMaxFileBytes = uint64_t{1} << 30;

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

std::string quoted(const std::string& name) { return bracket('"', printable(name), '"'); }

/// "[512, 64]"
std::string shape_text(const std::vector<int64_t>& shape) {
  std::vector<std::string> sizes;
  for (const int64_t size : shape) sizes.push_back(std::to_string(size));
  return bracket('[', join(sizes, ", "), ']');
}

/// Why a folder has no tensors that can be read, and how it gets some.
[[noreturn]] void refuse_without_tensors(const std::string& path) {
  for (const std::string& name : list_folder(path)) {
    if (!ends_with(name, ".bin") && !ends_with(name, ".pt") && !ends_with(name, ".pth")) continue;
    throw DataError(path + "/" + printable(name) +
                    ": a pickle file, which can run any program when it is opened, so it is not; "
                    "convert the folder with transformers: "
                    "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)");
  }
  throw DataError(path + ": neither " + kSingle + " nor " + kIndex + " is there");
}

/// weight_map of the index: every tensor's file, by the name on disk.
std::map<std::string, std::string> read_index(const std::string& path) {
  const nlohmann::json json = read_json_file(path);
  JsonFields fields(json, path);
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : fields.object("weight_map").items()) {
    const std::string where = path + ": tensor " + quoted(tensor);
    if (!file.is_string()) throw DataError(where + ": its file is not a name");
    const auto& name = file.get_ref<const std::string&>();
    if (!is_plain_name(name) || !ends_with(name, ".safetensors")) {
      throw DataError(where + ": " + quoted(name) +
                      " is not the name of a .safetensors file in the folder");
    }
    files[tensor] = name;
  }
  if (files.empty()) throw DataError(path + ": weight_map names no tensors");
  return files;
}

/// The rotary frequencies that old checkpoints store are computed from the config.
bool is_derived(const std::string& name) {
  return ends_with(name, ".self_attn.rotary_emb.inv_freq");
}

/// Layers behind the last that predict further tokens (GLM4-MoE's num_nextn_predict_layers):
/// transformers leaves them out of the model, too.
bool is_of_later_layer(const std::string& name, const HfModel& model) {
  constexpr std::string_view kLayers = "model.layers.";
  if (model.family != Family::kGlm4Moe || name.compare(0, kLayers.size(), kLayers) != 0)
    return false;
  const std::string digits = name.substr(kLayers.size(), 7);
  return std::atoll(digits.c_str()) >= model.model.num_hidden_layers;
}

/// Meets every tensor of the folder's files once and makes native ones of them.
class TensorMatcher {
 public:
  struct Match {
    TensorInfo tensor;
    size_t shard;
    const TensorEntry* entry;
  };

  TensorMatcher(const std::string& path, const HfModel& model) : path_(path), model_(model) {
    for (ModelTensor& tensor : model_tensors(model.model, model.moe)) {
      std::string name = tensor.name;
      expected_.emplace(std::move(name), std::move(tensor));
    }
  }

  void meet(const SafetensorsReader& file, size_t shard, const TensorEntry& entry) {
    const std::string where = file.path() + ": tensor " + quoted(entry.name);
    if (!met_.emplace(entry.name, file.path()).second) {
      throw DataError(where + ": it is in " + met_[entry.name] + " as well");
    }
    if (is_derived(entry.name) || is_of_later_layer(entry.name, model_)) return;
    if (model_.model.tie_word_embeddings && entry.name == kHead) {
      tied_head_ = {&file, &entry};
      return;
    }
    const std::optional<std::string> native = native_name(model_.family, entry.name);
    const auto found = native ? expected_.find(*native) : expected_.end();
    if (found == expected_.end()) {
      throw DataError(where + ": the model of config.json (" + to_string(model_.family) +
                      ") has no such tensor");
    }
    check(found->second, entry, where);
    matches_.push_back(
        {{found->first, entry.shape, entry.dtype, found->second.kind}, shard, &entry});
    if (entry.name == kEmbedding) embedding_ = {&file, &entry};
  }

  /// Every match, sorted by native name, once all tensors were met.
  std::vector<Match> finish() && {
    std::ranges::sort(matches_, {}, [](const Match& match) { return match.tensor.name; });
    refuse_missing();
    refuse_other_head();
    return std::move(matches_);
  }

 private:
  struct Stored {
    const SafetensorsReader* file = nullptr;
    const TensorEntry* entry = nullptr;
  };

  static void check(const ModelTensor& expected, const TensorEntry& entry,
                    const std::string& where) {
    if (entry.shape != expected.shape) {
      throw DataError(where + ": its shape is " + shape_text(entry.shape) +
                      ", by config.json it is " + shape_text(expected.shape));
    }
    if (entry.dtype != "F32" && entry.dtype != "BF16" && entry.dtype != "F16") {
      throw DataError(where + ": weights of type " + entry.dtype +
                      " cannot be read, only F32, BF16 and F16; convert them with transformers");
    }
  }

  void refuse_missing() const {
    std::set<std::string_view> there;
    for (const Match& match : matches_) there.insert(match.tensor.name);
    constexpr size_t kShown = 3;
    std::vector<std::string> missing;
    for (const auto& [name, tensor] : expected_) {
      if (!there.contains(name)) missing.push_back(quoted(*hf_name(model_.family, name)));
    }
    if (missing.empty()) return;
    const size_t count = missing.size();
    std::ranges::sort(missing);
    if (count > kShown) missing.resize(kShown);
    throw DataError(path_ + ": " + std::to_string(count) +
                    (count == 1 ? " tensor is" : " tensors are") +
                    " missing that config.json asks for: " + join(missing, ", ") +
                    (count > kShown ? ", ..." : ""));
  }

  /// A tied head may be stored; it must then be the embedding.
  void refuse_other_head() const {
    if (tied_head_.entry == nullptr) return;
    const TensorEntry &head = *tied_head_.entry, &embedding = *embedding_.entry;
    if (head.dtype == embedding.dtype && head.shape == embedding.shape &&
        std::memcmp(tied_head_.file->data(head), embedding_.file->data(embedding), head.bytes) == 0)
      return;
    throw DataError(
        tied_head_.file->path() + ": tensor " + quoted(kHead) + " is not " + kEmbedding +
        ", though config.json says \"tie_word_embeddings\": true; set that to false, or "
        "remove the tensor");
  }

  const std::string& path_;
  const HfModel& model_;
  std::unordered_map<std::string, ModelTensor> expected_;
  std::unordered_map<std::string, std::string> met_;  // name on disk: file
  std::vector<Match> matches_;
  Stored embedding_, tied_head_;
};

/// Index and files must agree on every tensor, both ways.
void check_index(const std::map<std::string, std::string>& index, const std::string& path,
                 const std::vector<std::unique_ptr<SafetensorsReader>>& shards) {
  std::set<std::string_view> there;
  for (const auto& shard : shards) {
    const std::string file = shard->path().substr(path.size() + 1);
    for (const TensorEntry& entry : shard->tensors()) {
      const auto found = index.find(entry.name);
      const std::string where = shard->path() + ": tensor " + quoted(entry.name);
      if (found == index.end()) throw DataError(where + ": " + kIndex + " does not name it");
      if (found->second != file) {
        throw DataError(where + ": by " + kIndex + " it is in " + found->second);
      }
      there.insert(entry.name);
    }
  }
  for (const auto& [tensor, file] : index) {
    if (!there.contains(tensor)) {
      throw DataError(path + "/" + file + ": tensor " + quoted(tensor) + " of " + kIndex +
                      " is not in it");
    }
  }
}

std::vector<std::unique_ptr<SafetensorsReader>> open_shards(const std::string& path) {
  std::vector<std::unique_ptr<SafetensorsReader>> shards;
  const auto open = [&](const std::string& name) {
    shards.push_back(std::make_unique<SafetensorsReader>(path + "/" + name));
  };
  const std::string index_path = path + "/" + kIndex;
  const bool single = path_exists(path + "/" + kSingle), sharded = path_exists(index_path);
  if (!single && !sharded) refuse_without_tensors(path);
  if (single && sharded) {
    throw DataError(path + ": both " + kSingle + " and " + kIndex +
                    " are there; remove the one that is not the model");
  }
  if (single) {
    open(kSingle);
    return shards;
  }
  const std::map<std::string, std::string> index = read_index(index_path);
  std::set<std::string> files;
  for (const auto& [tensor, file] : index) files.insert(file);
  for (const std::string& file : files) {
    if (!path_exists(path + "/" + file)) {
      throw DataError(path + "/" + file + ": not there, though " + kIndex + " names it");
    }
    open(file);
  }
  check_index(index, path, shards);
  return shards;
}

/// What the tokens of the folder's tokenizer.json mean, as `prepare` would say it. One that
/// is not built in is named all the same: it travels with the model.
DatasetMeta tokenizer_meta(const std::string& path, const HfModel& model) {
  DatasetMeta meta;
  meta.tokenizer = std::string("hf:") + kTokenizer;
  meta.tokenizer_digest = digest_text(xxh3_of_file(path + "/" + kTokenizer));
  try {
    const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer("hf:" + path + "/" + kTokenizer);
    meta.vocab_size = tokenizer->vocab_size();
    meta.eos = tokenizer->eos();
  } catch (const DataError& error) {
    log_warning(error.what());
    meta.vocab_size = model.model.vocab_size;
    meta.eos = model.eos;
  }
  meta.dtype = token_type_for(meta.vocab_size);
  return meta;
}

}  // namespace

bool is_hf_folder(const std::string& path) { return path_exists(path + "/" + kConfig); }

HfFolder::HfFolder(const std::string& path)
    : path_(path),
      config_(read_json_file(path + "/" + kConfig, {.bytes = kMaxConfigBytes})),
      model_(parse_hf_config(config_, path + "/" + kConfig)),
      shards_(open_shards(path)) {
  TensorMatcher matcher(path_, model_);
  for (size_t i = 0; i < shards_.size(); ++i) {
    for (const TensorEntry& entry : shards_[i]->tensors()) matcher.meet(*shards_[i], i, entry);
  }
  for (TensorMatcher::Match& match : std::move(matcher).finish()) {
    places_.emplace(match.tensor.name, Place{match.shard, match.entry});
    tensors_.push_back(std::move(match.tensor));
  }
}

NamedFiles HfFolder::files() const {
  NamedFiles files = {{"hf_config.json", read_file(path_ + "/" + kConfig, kMaxConfigBytes)}};
  for (const char* name : {"generation_config.json", kTokenizer, "tokenizer_config.json",
                           "special_tokens_map.json", "chat_template.jinja"}) {
    if (path_exists(path_ + "/" + name)) {
      files.emplace_back(name, read_file(path_ + "/" + name, kMaxFileBytes));
    }
  }
  if (path_exists(path_ + "/" + kTokenizer)) {
    files.emplace_back("meta.json", dataset_meta_text(tokenizer_meta(path_, model_)));
  }
  return files;
}

void HfFolder::read(const TensorInfo& tensor, Interval range, void* out) {
  const auto found = places_.find(tensor.name);
  if (found == places_.end()) {
    throw DataError(path_ + ": no tensor " + quoted(tensor.name));
  }
  const TensorEntry& entry = *found->second.entry;
  const size_t element = *dtype_bits(entry.dtype) / 8;
  const std::byte* values = shards_[found->second.shard]->data(entry);
  std::memcpy(out, values + static_cast<size_t>(range.begin) * element,
              static_cast<size_t>(range.size()) * element);
}

}  // namespace switchyard
