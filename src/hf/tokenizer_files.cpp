#include "hf/tokenizer_files.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "data/byte_level.h"
#include "data/byte_tokenizer.h"
#include "data/dataset_meta.h"
#include "data/tokenizer.h"

namespace switchyard {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
using Kind = TokenizerSpec::Kind;

constexpr const char* kTokenizerName = "tokenizer.json";
constexpr const char* kConfigName = "tokenizer_config.json";
constexpr const char* kMetaName = "meta.json";
constexpr const char* kEndOfText = "<|endoftext|>";

std::optional<DatasetMeta> meta_of(const NamedFiles& files) {
  const std::string* text = find_file(files, kMetaName);
  if (text == nullptr) return std::nullopt;
  return dataset_meta_of(parse_json(*text, kMetaName), kMetaName);
}

/// The tokenizer `bytes` as a BPE that never merges.
std::string byte_tokenizer_json() {
  ordered_json vocab = ordered_json::object();
  for (int byte = 0; byte < ByteTokenizer::kEos; ++byte) {
    vocab[byte_level_character(static_cast<unsigned char>(byte))] = byte;
  }
  const ordered_json byte_level = {{"type", "ByteLevel"},
                                   {"add_prefix_space", false},
                                   {"trim_offsets", true},
                                   {"use_regex", false}};
  const ordered_json end_of_text = {{"id", ByteTokenizer::kEos},
                                    {"content", kEndOfText},
                                    {"single_word", false},
                                    {"lstrip", false},
                                    {"rstrip", false},
                                    {"normalized", false},
                                    {"special", true}};
  const ordered_json model = {{"type", "BPE"},
                              {"dropout", nullptr},
                              {"unk_token", nullptr},
                              {"continuing_subword_prefix", nullptr},
                              {"end_of_word_suffix", nullptr},
                              {"fuse_unk", false},
                              {"byte_fallback", false},
                              {"ignore_merges", false},
                              {"vocab", vocab},
                              {"merges", ordered_json::array()}};
  const ordered_json tokenizer = {{"version", "1.0"},
                                  {"truncation", nullptr},
                                  {"padding", nullptr},
                                  {"added_tokens", ordered_json::array({end_of_text})},
                                  {"normalizer", nullptr},
                                  {"pre_tokenizer", byte_level},
                                  {"post_processor", nullptr},
                                  {"decoder", byte_level},
                                  {"model", model}};
  return tokenizer.dump(2) + "\n";
}

/// The model's tokenizer.json; or why there is none, in `missing`.
std::optional<std::string> tokenizer_json(const NamedFiles& files, const DatasetMeta* meta,
                                          std::string& missing) {
  if (meta == nullptr) {
    if (const std::string* text = find_file(files, kTokenizerName)) return *text;
    missing = "the model came without a tokenizer";
    return std::nullopt;
  }
  try {
    const TokenizerSpec spec = parse_tokenizer_spec(meta->tokenizer);
    if (spec.kind == Kind::kBytes) return byte_tokenizer_json();
    const std::string* text = find_file(files, spec.path);
    if (spec.kind == Kind::kHuggingFace && text != nullptr) return *text;
  } catch (const ConfigError&) {  // a tokenizer of someone else's
  }
  missing = "the model's tokenizer, " + meta->tokenizer + ", has no tokenizer.json";
  return std::nullopt;
}

/// The text of a token, among the added ones and in the vocabulary; "" for none.
std::string token_of(const json& tokenizer, int64_t id) {
  for (const json& token : tokenizer.value("added_tokens", json::array())) {
    if (token.value("id", int64_t{-1}) == id) return token.value("content", "");
  }
  return "";
}

/// What older versions call a list of tokens that has no names of its own.
void rename_extra_tokens(json& config) {
  const auto extra = config.find("extra_special_tokens");
  if (extra == config.end() || !extra->is_array()) return;
  if (!config.contains("additional_special_tokens")) config["additional_special_tokens"] = *extra;
  config.erase("extra_special_tokens");
}

std::string tokenizer_config(const NamedFiles& files, const std::string& tokenizer,
                             const DatasetMeta* meta) {
  json config = json::object();
  if (const std::string* carried = find_file(files, kConfigName)) {
    config = parse_json(*carried, kConfigName);
    if (!config.is_object()) throw DataError(std::string(kConfigName) + ": not a JSON object");
  } else {
    config["clean_up_tokenization_spaces"] = false;
  }
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  config.erase("auto_map");  // code that does not travel with the model
  config.erase("backend");
  rename_extra_tokens(config);
  const std::string end = meta == nullptr || config.contains("eos_token")
                              ? ""
                              : token_of(parse_json(tokenizer, kTokenizerName), meta->eos);
  if (!end.empty()) config["eos_token"] = end;
  return config.dump(2) + "\n";
}

}  // namespace

TokenizerFiles tokenizer_files(const NamedFiles& model_files) {
  TokenizerFiles made;
  const std::optional<DatasetMeta> meta = meta_of(model_files);
  const DatasetMeta* known = meta ? &*meta : nullptr;
  const std::optional<std::string> tokenizer = tokenizer_json(model_files, known, made.missing);
  if (!tokenizer) return made;
  made.files.emplace_back(kTokenizerName, *tokenizer);
  made.files.emplace_back(kConfigName, tokenizer_config(model_files, *tokenizer, known));
  for (const char* name : {"special_tokens_map.json", "chat_template.jinja"}) {
    if (const std::string* text = find_file(model_files, name))
      made.files.emplace_back(name, *text);
  }
  return made;
}

}  // namespace switchyard
