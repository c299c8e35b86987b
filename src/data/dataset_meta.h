#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "data/token_shard.h"

namespace switchyard {

/// DIR/meta.json: what a data folder's tokens mean. Any tool may write one; only
/// `tokenizer`, `vocab_size`, `eos` and `dtype` are required, unknown keys are let be.
///
///   {"tokenizer": "hf:tokenizer.json", "vocab_size": 8192, "eos": 0, "dtype": "uint16",
///    "bytes": {"train": 7912345, "val": 416123}, ...}
struct DatasetMeta {
  std::string tokenizer;         // as of --tokenizer; a relative path starts at DIR
  std::string tokenizer_digest;  // xxh3 of the tokenizer's file; empty: unknown
  int64_t vocab_size = 0;        // ids are in [0, vocab_size)
  int64_t eos = 0;               // the id that ends every document
  TokenType dtype = TokenType::kUint16;
  std::string name;                       // of the domain
  std::map<std::string, int64_t> bytes;   // text bytes per split
  std::optional<int64_t> bytes_total;     // `bytes` given as one number: of all splits
  std::map<std::string, int64_t> tokens;  // per split
  std::optional<int64_t> documents;
  std::string source;
  std::string licence;
};

/// Reads DIR/meta.json. Throws DataError with the path, the key and the way out.
DatasetMeta read_dataset_meta(const std::string& dir);

/// The same from its parsed text, which messages call `path`.
DatasetMeta dataset_meta_of(const nlohmann::json& json, const std::string& path);

/// Writes DIR/meta.json atomically.
void write_dataset_meta(const std::string& dir, const DatasetMeta& meta);
/// What that writes.
std::string dataset_meta_text(const DatasetMeta& meta);

/// Whether the tokens of both mean the same text.
bool same_tokenizer(const DatasetMeta& a, const DatasetMeta& b);

}  // namespace switchyard
