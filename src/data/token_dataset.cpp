#include "data/token_dataset.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/checksum.h"
#include "base/error.h"

namespace switchyard {
namespace {

TokenShard open_shard(const std::string& dir, const std::string& split) {
  if (!has_split(dir, split)) {
    throw DataError(dir + "/" + split + ".idx: not there; `switchyard prepare --out " + dir +
                    "` writes train and, with a --val-fraction above 0, val");
  }
  return TokenShard(dir + "/" + split);
}

/// Tokens of train and val together.
int64_t tokens_of_all_splits(const std::string& dir) {
  int64_t tokens = 0;
  for (const char* split : {"train", "val"}) {
    if (has_split(dir, split)) tokens += TokenShard(dir + "/" + split).num_tokens();
  }
  return tokens;
}

std::optional<double> ratio(int64_t bytes, int64_t tokens) {
  if (bytes <= 0 || tokens <= 0) return std::nullopt;
  return static_cast<double>(bytes) / static_cast<double>(tokens);
}

}  // namespace

bool has_split(const std::string& dir, const std::string& split) {
  return std::filesystem::exists(dir + "/" + split + ".idx");
}

TokenDataset::TokenDataset(const std::string& dir, const std::string& split)
    : dir_(dir), split_(split), meta_(read_dataset_meta(dir)), shard_(open_shard(dir, split)) {
  if (shard_.type() != meta_.dtype) {
    throw DataError(dir + "/meta.json: says dtype " + token_type_name(meta_.dtype) + ", but " +
                    split + ".idx says " + token_type_name(shard_.type()));
  }
}

void TokenDataset::read(int64_t begin, int64_t count, int64_t* out) const {
  shard_.read(begin, count, out);
  for (int64_t i = 0; i < count; ++i) {
    if (out[i] < 0 || out[i] >= meta_.vocab_size) {
      throw DataError(shard_.bin_path() + ": token " + std::to_string(begin + i) + " is " +
                      std::to_string(out[i]) + ", but meta.json says vocab_size " +
                      std::to_string(meta_.vocab_size));
    }
  }
}

std::vector<int64_t> TokenDataset::count_tokens(int64_t part, int64_t parts) const {
  constexpr int64_t kChunk = 1 << 16;
  std::vector<int64_t> counts(meta_.vocab_size, 0), chunk(kChunk);
  const int64_t end = num_tokens() * (part + 1) / parts;
  for (int64_t begin = num_tokens() * part / parts; begin < end; begin += kChunk) {
    const int64_t n = std::min(kChunk, end - begin);
    read(begin, n, chunk.data());
    for (int64_t i = 0; i < n; ++i) counts[chunk[i]] += 1;
  }
  return counts;
}

std::optional<double> TokenDataset::bytes_per_token() const {
  const auto found = meta_.bytes.find(split_);
  if (found != meta_.bytes.end()) return ratio(found->second, num_tokens());
  if (meta_.bytes_total) return ratio(*meta_.bytes_total, tokens_of_all_splits(dir_));
  return std::nullopt;
}

std::optional<double> TokenDataset::bits_per_byte(double loss) const {
  const std::optional<double> bytes = bytes_per_token();
  if (!bytes) return std::nullopt;
  return loss / std::log(2.0) / *bytes;
}

uint64_t TokenDataset::fingerprint() const {
  const uint64_t shard = shard_.fingerprint();
  Xxh3Stream hash;
  hash.update(&shard, sizeof(shard));
  hash.update(&meta_.vocab_size, sizeof(meta_.vocab_size));
  hash.update(&meta_.eos, sizeof(meta_.eos));
  hash.update(meta_.tokenizer_digest.data(), meta_.tokenizer_digest.size());
  return hash.digest();
}

}  // namespace switchyard
