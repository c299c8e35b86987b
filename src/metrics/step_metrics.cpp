#include "metrics/step_metrics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace switchyard {

MoeLayerMetrics layer_metrics(int64_t layer, const std::vector<int64_t>& copies_E) {
  MoeLayerMetrics metrics;
  metrics.layer = layer;
  metrics.copies = copies_E;
  metrics.load.assign(copies_E.size(), 0.0);
  const int64_t total = std::accumulate(copies_E.begin(), copies_E.end(), int64_t{0});
  if (total == 0) return metrics;
  for (size_t e = 0; e < copies_E.size(); ++e) {
    metrics.load[e] = static_cast<double>(copies_E[e]) / static_cast<double>(total);
  }
  const double busiest = *std::max_element(metrics.load.begin(), metrics.load.end());
  metrics.max_load = busiest * static_cast<double>(copies_E.size());
  return metrics;
}

int64_t MoeLayerMetrics::dead() const { return std::count(copies.begin(), copies.end(), 0); }

double EvalMetrics::perplexity() const { return std::exp(loss); }

}  // namespace switchyard
