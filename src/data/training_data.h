#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "data/blend.h"
#include "data/sample_batch.h"
#include "data/token_dataset.h"

namespace switchyard {

/// The samples that a run trains on, in the run's global order 0, 1, 2, ...: a pure
/// function of the config's data section and the seed, so a run's state is one
/// cursor, counted in samples, and any world size sees the same order.
///
/// Sample j of a source is the S + 1 tokens of its train split from j S on; there are
/// n = (tokens - 1) / S of them. Place g of the global order belongs to a source and an
/// index in it (see Blend); index i is sample Permutation(n, seed, "shuffle/SOURCE",
/// i / n)(i % n), with SOURCE the source's position in the config: every epoch of
/// every source is a shuffle of its own, and names may change.
///
/// Threads may share one.
class TrainingData {
 public:
  /// Opens every source. Throws DataError as TokenDataset does and for a split
  /// below S + 1 tokens, ConfigError when two sources have different tokenizers.
  TrainingData(const DataConfig& config, uint64_t seed);

  /// Samples [first, first + count) of the global order.
  SampleBatch read(int64_t first, int64_t count) const;

  int64_t sequence_length() const { return length_; }
  int64_t vocab_size() const { return meta().vocab_size; }
  int64_t eos() const { return meta().eos; }
  /// Of the first source; the others' mean the same tokens.
  const DatasetMeta& meta() const { return sources_.front().meta(); }

  int64_t num_sources() const { return static_cast<int64_t>(sources_.size()); }
  const TokenDataset& source(int64_t i) const { return sources_[i]; }
  /// The config's name of a source, else its meta.json's, else its folder's.
  const std::string& source_name(int64_t i) const { return names_[i]; }
  /// Samples in one epoch of a source.
  int64_t samples_in_source(int64_t i) const { return samples_[i]; }
  const Blend& blend() const { return blend_; }

  /// The sources' token counts as one: of every source by its share of the blend,
  ///
  ///   counts_v = sum_i share_i N / n_i counts_iv,   n_i tokens of source i, N of all
  ///
  /// rounded; of one source, its own. `of_sources`: those of the whole train split of
  /// each source (V).
  std::vector<int64_t> blended_counts(const std::vector<std::vector<int64_t>>& of_sources) const;

  /// Digest of all that the global order depends on but for the seed: the sources'
  /// tokens, their order and shares, the sequence length.
  std::string fingerprint() const;

 private:
  void add_source(const DataSource& source);

  int64_t length_;
  uint64_t seed_;
  Blend blend_;
  std::vector<TokenDataset> sources_;
  std::vector<std::string> names_;
  std::vector<int64_t> samples_;
};

}  // namespace switchyard
