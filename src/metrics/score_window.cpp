#include "metrics/score_window.h"

#include <cmath>
#include <limits>
#include <numeric>

namespace switchyard {

double ScoreWindow::score(double value) const {
  if (2 * static_cast<int64_t>(values_.size()) < limit_) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  const auto n = static_cast<double>(values_.size());
  const double mean = std::accumulate(values_.begin(), values_.end(), 0.0) / n;
  double squares = 0;
  for (const double x : values_) squares += (x - mean) * (x - mean);
  const double deviation = std::sqrt(squares / (n - 1));
  if (deviation == 0) {
    return value == mean ? 0 : std::copysign(std::numeric_limits<double>::infinity(), value - mean);
  }
  return (value - mean) / deviation;
}

void ScoreWindow::push(double value) {
  values_.push_back(value);
  if (static_cast<int64_t>(values_.size()) > limit_) values_.erase(values_.begin());
}

}  // namespace switchyard
