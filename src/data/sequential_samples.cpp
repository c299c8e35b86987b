#include "data/sequential_samples.h"

#include <algorithm>

#include "base/error.h"

namespace switchyard {

SequentialSamples::SequentialSamples(const TokenDataset& dataset, int64_t sequence_length)
    : dataset_(&dataset), length_(sequence_length) {
  if (length_ < 1) throw ConfigError("sequence_length: must be at least 1");
  if (dataset.num_tokens() < 2) {
    throw DataError(dataset.dir() + "/" + dataset.split() + ": " +
                    std::to_string(dataset.num_tokens()) +
                    " tokens leave nothing to predict; prepare more text or raise --val-fraction");
  }
}

SampleBatch SequentialSamples::read(int64_t first, int64_t count) const {
  SampleBatch batch;
  batch.count = count;
  batch.length = length_;
  batch.tokens.assign(count * (length_ + 1), dataset_->meta().eos);
  batch.source.assign(count, 0);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t sample = first + i, begin = sample * length_;
    const int64_t valid = std::min(length_, num_targets() - begin);
    dataset_->read(begin, valid + 1, batch.tokens.data() + i * (length_ + 1));
    batch.order.push_back(sample);
    batch.ids.push_back(static_cast<uint64_t>(sample));
    batch.valid.push_back(valid);
  }
  return batch;
}

}  // namespace switchyard
