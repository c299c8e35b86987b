#pragma once

#include <cstdint>
#include <vector>

namespace switchyard {

/// Some samples, each S + 1 tokens: position t is the input, t + 1 its target.
struct SampleBatch {
  int64_t count = 0;
  int64_t length = 0;           // S
  std::vector<int64_t> tokens;  // count x (S + 1)
  std::vector<int64_t> order;   // place of each in the global order (or in the split)
  std::vector<uint64_t> ids;    // of each, unique: source << 40 | sample in the source
  std::vector<int32_t> source;  // of each
  std::vector<int64_t> valid;   // target tokens of each: S, but for the last of a split
};

}  // namespace switchyard
