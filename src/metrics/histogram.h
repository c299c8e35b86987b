#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace switchyard {

/// counts[i] values are in [edges[i], edges[i + 1]).
struct Histogram {
  std::vector<double> edges = {};  // one more than counts, rising
  std::vector<int64_t> counts = {};
};

/// A histogram that any number of ranks can fill and add up, since its bins are fixed: 4096
/// of them, 1/64 wide, from -32 to 32. What lies beyond is counted in the first and last.
class FineHistogram {
 public:
  static constexpr int64_t kBins = 4096;
  static constexpr double kWidth = 1.0 / 64;
  static constexpr double kFirstEdge = -32;

  /// Values that are not numbers are left out.
  void add(std::span<const float> values);

  std::vector<int64_t>& counts() { return counts_; }
  const std::vector<int64_t>& counts() const { return counts_; }

  /// The range that has values, in at most `max_bins` of one width: that of the fine
  /// bins, doubled as often as it takes, with edges at its multiples. Empty if there is no
  /// value.
  Histogram coarse(int64_t max_bins) const;

 private:
  std::vector<int64_t> counts_ = std::vector<int64_t>(kBins, 0);
};

/// Experts on the axis: bin e is [e, e + 1) and counts the copies of expert e.
Histogram expert_histogram(const std::vector<int64_t>& copies_E);

}  // namespace switchyard
