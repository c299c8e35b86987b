#pragma once

#include <string>

#include "base/random.h"
#include "train/train_step.h"

namespace switchyard {

/// Sequences [first, first + count) of a step of random tokens, config.data.sequence_length long:
/// the same on every rank and layout. Every third is of domain 1. `words` names the draw.
inline MicroBatch random_micro_batch(const RunConfig& config, int64_t first, int64_t count,
                                     const std::string& words, int64_t end_of_text = 0) {
  const RandomStream stream(3, words);
  const auto vocabulary = static_cast<uint32_t>(config.model.vocab_size);
  SampleBatch samples;
  samples.count = count;
  samples.length = config.data.sequence_length;
  for (int64_t b = first; b < first + count; ++b) {
    for (int64_t s = 0; s <= samples.length; ++s) {
      const auto block = stream.block(static_cast<uint64_t>(b), static_cast<uint64_t>(s));
      samples.tokens.push_back(block[0] % vocabulary);
    }
    samples.order.push_back(b);
    samples.ids.push_back(static_cast<uint64_t>(b));
    samples.source.push_back(b % 3 == 1 ? 1 : 0);
    samples.valid.push_back(samples.length);
  }
  return make_micro_batch(samples, config, end_of_text);
}

}  // namespace switchyard
