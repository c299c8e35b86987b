#include "data/blend.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "base/error.h"

namespace switchyard {
namespace {

constexpr int64_t kMaxCycle = 65536;

void check(const std::vector<double>& weights) {
  if (weights.empty()) throw ConfigError("data.path: no source");
  for (const double weight : weights) {
    if (!std::isfinite(weight) || weight <= 0) {
      throw ConfigError("data.path: weight " + std::to_string(weight) +
                        " is not a positive number; leave the source out instead");
    }
  }
}

bool is_exact(const std::vector<double>& shares, int64_t length) {
  return std::all_of(shares.begin(), shares.end(), [length](double share) {
    const double count = share * static_cast<double>(length);
    return std::round(count) >= 1 && std::abs(count - std::round(count)) < 1e-9;
  });
}

int64_t cycle_length(const std::vector<double>& shares) {
  for (int64_t length = 1; length < kMaxCycle; ++length) {
    if (is_exact(shares, length)) return length;
  }
  return kMaxCycle;
}

/// Largest remainders: floors first, then one each to those that lost most.
std::vector<int64_t> apportion(const std::vector<double>& shares, int64_t length) {
  std::vector<int64_t> counts;
  std::vector<double> lost;
  for (const double share : shares) {
    const double exact = share * static_cast<double>(length);
    counts.push_back(static_cast<int64_t>(std::floor(exact + 1e-9)));
    lost.push_back(exact - static_cast<double>(counts.back()));
  }
  std::vector<size_t> order(shares.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return lost[a] > lost[b]; });
  int64_t left = length - std::accumulate(counts.begin(), counts.end(), int64_t{0});
  for (size_t i = 0; left > 0; ++i, --left) ++counts[order[i % order.size()]];
  return counts;
}

}  // namespace

Blend::Blend(const std::vector<double>& weights) {
  check(weights);
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<double> shares;
  for (const double weight : weights) shares.push_back(weight / sum);
  counts_ = apportion(shares, cycle_length(shares));
  for (size_t i = 0; i < counts_.size(); ++i) {
    if (counts_[i] < 1) {
      throw ConfigError("data.path: weight " + std::to_string(weights[i]) +
                        " is below 1/65536 of all weights and would never be served");
    }
  }
  deal();
}

void Blend::deal() {
  const int64_t length = std::accumulate(counts_.begin(), counts_.end(), int64_t{0});
  const auto sources = static_cast<int64_t>(counts_.size());
  const int64_t scale = std::max<int64_t>(2 * sources - 2, 1);
  std::vector<int64_t> dealt(counts_.size(), 0);
  for (int64_t n = 1; n <= length; ++n) {
    // All in units of 1 / (scale * length): a source's debt is n c_i / L - dealt_i.
    int64_t chosen = -1, best_slack = 0;
    for (int64_t i = 0; i < sources; ++i) {
      const int64_t debt = scale * (n * counts_[i] - length * dealt[i]);
      if (sources > 1 && debt < length) continue;
      const int64_t slack = (scale - 1) * length - debt;
      // slack_i / c_i < best / c_best, without dividing.
      if (chosen < 0 || slack * counts_[chosen] < best_slack * counts_[i]) {
        chosen = i;
        best_slack = slack;
      }
    }
    cycle_.push_back({static_cast<int32_t>(chosen), dealt[chosen]++});
  }
}

Blend::Place Blend::at(int64_t place) const {
  const auto length = static_cast<int64_t>(cycle_.size());
  const Place& in_cycle = cycle_[place % length];
  return {in_cycle.source, place / length * counts_[in_cycle.source] + in_cycle.index};
}

}  // namespace switchyard
