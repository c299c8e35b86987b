#include "data/dataset_meta.h"

#include <filesystem>
#include <limits>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

namespace switchyard {
namespace {

std::string optional_text(JsonFields& fields, const std::string& key) {
  return fields.has(key) && !fields.take(key).is_null() ? fields.text(key) : std::string();
}

std::map<std::string, int64_t> counts_per_split(const nlohmann::json& object,
                                                const std::string& where) {
  std::map<std::string, int64_t> counts;
  for (const auto& [split, count] : object.items()) {
    counts[split] = JsonFields::as_count(count, where + "." + split);
  }
  return counts;
}

void read_bytes(const nlohmann::json& value, const std::string& where, DatasetMeta& meta) {
  if (value.is_object()) {
    meta.bytes = counts_per_split(value, where);
  } else if (!value.is_null()) {
    meta.bytes_total = JsonFields::as_count(value, where);
  }
}

void check(const DatasetMeta& meta, const std::string& path) {
  if (meta.vocab_size < 1 || meta.vocab_size > std::numeric_limits<int32_t>::max()) {
    throw DataError(path + ": vocab_size " + std::to_string(meta.vocab_size) +
                    " is not in 1 ... 2147483647");
  }
  if (meta.eos < 0 || meta.eos >= meta.vocab_size) {
    throw DataError(path + ": eos " + std::to_string(meta.eos) +
                    " is not in 0 ... vocab_size - 1 = " + std::to_string(meta.vocab_size - 1));
  }
}

}  // namespace

DatasetMeta read_dataset_meta(const std::string& dir) {
  const std::string path = dir + "/meta.json";
  if (!std::filesystem::exists(path)) {
    throw DataError(path + ": not there; `switchyard prepare --out " + dir +
                    "` makes such a folder");
  }
  return dataset_meta_of(read_json_file(path), path);
}

DatasetMeta dataset_meta_of(const nlohmann::json& json, const std::string& path) {
  JsonFields fields(json, path);
  DatasetMeta meta;
  meta.tokenizer = fields.text("tokenizer");
  meta.vocab_size = fields.count("vocab_size");
  meta.eos = fields.count("eos");
  meta.dtype = parse_token_type(fields.text("dtype"), path);
  meta.tokenizer_digest = optional_text(fields, "tokenizer_xxh3");
  meta.name = optional_text(fields, "name");
  meta.source = optional_text(fields, "source");
  meta.licence = optional_text(fields, "licence");
  if (json.contains("bytes")) read_bytes(json["bytes"], path + ": bytes", meta);
  if (json.contains("tokens") && json["tokens"].is_object()) {
    meta.tokens = counts_per_split(json["tokens"], path + ": tokens");
  }
  if (json.contains("documents") && json["documents"].is_number_unsigned()) {
    meta.documents = fields.count("documents");
  }
  check(meta, path);
  return meta;
}

std::string dataset_meta_text(const DatasetMeta& meta) {
  nlohmann::ordered_json json = {{"name", meta.name},
                                 {"tokenizer", meta.tokenizer},
                                 {"vocab_size", meta.vocab_size},
                                 {"eos", meta.eos},
                                 {"dtype", token_type_name(meta.dtype)}};
  if (!meta.tokenizer_digest.empty()) json["tokenizer_xxh3"] = meta.tokenizer_digest;
  if (!meta.tokens.empty()) json["tokens"] = meta.tokens;
  if (!meta.bytes.empty()) json["bytes"] = meta.bytes;
  if (meta.bytes_total) json["bytes"] = *meta.bytes_total;
  if (meta.documents) json["documents"] = *meta.documents;
  if (!meta.source.empty()) json["source"] = meta.source;
  if (!meta.licence.empty()) json["licence"] = meta.licence;
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

void write_dataset_meta(const std::string& dir, const DatasetMeta& meta) {
  write_file_atomically(dir + "/meta.json", dataset_meta_text(meta));
}

bool same_tokenizer(const DatasetMeta& a, const DatasetMeta& b) {
  if (a.vocab_size != b.vocab_size || a.eos != b.eos) return false;
  if (!a.tokenizer_digest.empty() && !b.tokenizer_digest.empty()) {
    return a.tokenizer_digest == b.tokenizer_digest;
  }
  return a.tokenizer == b.tokenizer;
}

}  // namespace switchyard
