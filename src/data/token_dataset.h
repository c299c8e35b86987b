#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset_meta.h"
#include "data/token_shard.h"

namespace switchyard {

/// One split of a data folder: DIR/SPLIT.{bin,idx} under DIR/meta.json. Threads may
/// share one.
class TokenDataset {
 public:
  /// Throws DataError if a file is missing or torn, or the shard's dtype is not
  /// meta.json's.
  TokenDataset(const std::string& dir, const std::string& split);

  const std::string& dir() const { return dir_; }
  const std::string& split() const { return split_; }
  const DatasetMeta& meta() const { return meta_; }
  int64_t num_tokens() const { return shard_.num_tokens(); }
  int64_t num_documents() const { return shard_.num_documents(); }

  /// Tokens [begin, begin + count), which the caller keeps inside the split. Throws
  /// DataError with file and position if one is not in [0, vocab_size).
  void read(int64_t begin, int64_t count, int64_t* out) const;

  /// How often each token of the vocabulary occurs in the `part`-th of `parts` equal runs
  /// of the split's tokens. Throws DataError as read does.
  std::vector<int64_t> count_tokens(int64_t part, int64_t parts) const;

  /// Text bytes per token, if meta.json tells: of this split, or of all of them if
  /// it has one number only.
  std::optional<double> bytes_per_token() const;

  /// loss / ln 2 / bytes_per_token, for a mean loss in nats per token of this split.
  std::optional<double> bits_per_byte(double loss) const;

  /// Digest of the tokens (see TokenShard) and of what they mean, the same wherever
  /// the folder lies. A run's resume compares it.
  uint64_t fingerprint() const;

 private:
  std::string dir_;
  std::string split_;
  DatasetMeta meta_;
  TokenShard shard_;
};

/// Whether `dir` has this split.
bool has_split(const std::string& dir, const std::string& split);

}  // namespace switchyard
