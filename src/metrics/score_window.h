#pragma once

#include <cstdint>
#include <vector>

namespace switchyard {

/// The last values of a number, against which the next one is measured.
class ScoreWindow {
 public:
  /// Keeps `limit` values; half of them must be there before one is measured.
  explicit ScoreWindow(int64_t limit) : limit_(limit) {}

  /// (value - mean) / standard deviation of the values in the window; infinite where these
  /// are all the same and this is another, NaN while there are too few.
  double score(double value) const;

  void push(double value);

  const std::vector<double>& values() const { return values_; }  // oldest first
  void restore(std::vector<double> values) { values_ = std::move(values); }

 private:
  int64_t limit_;
  std::vector<double> values_;
};

}  // namespace switchyard
