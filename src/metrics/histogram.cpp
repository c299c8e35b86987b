#include "metrics/histogram.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace switchyard {

void FineHistogram::add(std::span<const float> values) {
  constexpr auto kLast = static_cast<float>(kBins - 1);
  for (const float value : values) {
    if (std::isnan(value)) continue;
    const float place = (value - static_cast<float>(kFirstEdge)) / static_cast<float>(kWidth);
    ++counts_[static_cast<size_t>(std::clamp(place, 0.0F, kLast))];
  }
}

Histogram FineHistogram::coarse(int64_t max_bins) const {
  int64_t begin = 0, end = kBins;  // of the bins with values
  while (begin < end && counts_[begin] == 0) ++begin;
  while (end > begin && counts_[end - 1] == 0) --end;
  if (begin == end) return {};
  int64_t merged = 1;  // fine bins in one: a power of two, as kBins is
  const auto bins = [&] { return (end + merged - 1) / merged - begin / merged; };
  while (bins() > max_bins) merged *= 2;
  Histogram histogram;
  const int64_t first = begin / merged * merged;
  for (int64_t bin = first; bin < end; bin += merged) {
    histogram.edges.push_back(kFirstEdge + static_cast<double>(bin) * kWidth);
    histogram.counts.push_back(
        std::accumulate(counts_.begin() + bin, counts_.begin() + bin + merged, int64_t{0}));
  }
  histogram.edges.push_back(histogram.edges.back() + static_cast<double>(merged) * kWidth);
  return histogram;
}

Histogram expert_histogram(const std::vector<int64_t>& copies_E) {
  Histogram histogram;
  histogram.counts = copies_E;
  histogram.edges.resize(copies_E.size() + 1);
  std::iota(histogram.edges.begin(), histogram.edges.end(), 0.0);
  return histogram;
}

}  // namespace switchyard
