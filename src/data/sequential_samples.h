#pragma once

#include <cstdint>

#include "data/sample_batch.h"
#include "data/token_dataset.h"

namespace switchyard {

/// A split once, in order, as evaluation reads it: sample j begins at token j S, and
/// the last is shorter when the split does not divide, so that every token but the
/// first is a target exactly once.
///
/// The dataset outlives this. Threads may share one.
class SequentialSamples {
 public:
  /// Throws DataError for a split of fewer than two tokens: it has no target.
  SequentialSamples(const TokenDataset& dataset, int64_t sequence_length);

  int64_t count() const { return (num_targets() + length_ - 1) / length_; }
  /// Over all samples: the split's tokens but one.
  int64_t num_targets() const { return dataset_->num_tokens() - 1; }

  /// Samples [first, first + count), which the caller keeps below count(). A short one
  /// is filled up with end-of-text; its first `valid` targets count. `order` and
  /// `ids` are the sample's number.
  SampleBatch read(int64_t first, int64_t count) const;

 private:
  const TokenDataset* dataset_;
  int64_t length_;
};

}  // namespace switchyard
