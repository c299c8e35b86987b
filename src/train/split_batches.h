#pragma once

#include <optional>
#include <string>

#include "data/sequential_samples.h"
#include "data/token_dataset.h"
#include "train/session.h"
#include "train/train_step.h"

namespace switchyard {

/// A split read in order by all ranks together, each sequence once: what evaluation and
/// diagnostics run over. Local: the ranks read the same files.
class SplitBatches {
 public:
  ///   sequence_length  of the split if that is shorter
  ///   max_sequences    0: the whole split
  ///   domain           of all its sequences, for routers that choose by it
  ///
  /// `session` outlives this. Throws ConfigError when the data's vocabulary is larger than
  /// the model's and when its router needs a domain and there is none, DataError when there is no
  /// such split.
  SplitBatches(const Session& session, const std::string& data_dir, const std::string& split,
               int64_t sequence_length, int64_t max_sequences, std::optional<int64_t> domain);
  SplitBatches(const SplitBatches&) = delete;
  SplitBatches& operator=(const SplitBatches&) = delete;

  const TokenDataset& dataset() const { return dataset_; }
  int64_t sequence_length() const { return length_; }
  /// Of all ranks.
  int64_t sequences() const { return sequences_; }
  int64_t targets() const;

  bool done() const { return begin_ >= sequences_; }
  /// This rank's part of the next round, up to a micro-batch: with no sequences where
  /// others have the last ones. `order_B` numbers the split's sequences.
  MicroBatch next();

 private:
  const Session& session_;
  std::optional<int64_t> domain_;
  TokenDataset dataset_;
  int64_t length_;
  SequentialSamples samples_;
  int64_t sequences_;
  int64_t begin_ = 0;
};

}  // namespace switchyard
