#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

namespace switchyard {

/// Who holds a parameter: `kDense` is replicated on every rank of the world
/// (routers included); `kExpert` lives on the ranks of one expert-parallel index.
enum class ParameterKind { kDense, kExpert };

/// "dense" or "expert": the word in manifests and reports.
inline const char* to_string(ParameterKind kind) {
  return kind == ParameterKind::kDense ? "dense" : "expert";
}

/// Elements [begin, end) of a flattened tensor or buffer.
struct Interval {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return std::max<int64_t>(end - begin, 0); }
  bool empty() const { return end <= begin; }
};

inline Interval intersect(Interval a, Interval b) {
  return {std::max(a.begin, b.begin), std::min(a.end, b.end)};
}

}  // namespace switchyard
