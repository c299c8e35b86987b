#include "train/spike_guard.h"

#include <cmath>
#include <numeric>
#include <utility>

namespace switchyard {
namespace {

void push(std::vector<double>& window, double value, int64_t limit) {
  window.push_back(value);
  if (static_cast<int64_t>(window.size()) > limit) window.erase(window.begin());
}

}  // namespace

bool SpikeGuard::is_spike(double loss, double norm) {
  if (config_.action == "none") return false;
  const bool spike = stands_out(loss, losses_) || stands_out(norm, norms_);
  push(losses_, loss, config_.window);
  push(norms_, norm, config_.window);
  return spike;
}

bool SpikeGuard::stands_out(double value, const std::vector<double>& window) const {
  const auto n = static_cast<double>(window.size());
  if (2 * static_cast<int64_t>(window.size()) < config_.window) return false;
  const double mean = std::accumulate(window.begin(), window.end(), 0.0) / n;
  double squares = 0;
  for (const double x : window) squares += (x - mean) * (x - mean);
  return value > mean + config_.sigmas * std::sqrt(squares / (n - 1));
}

void SpikeGuard::restore(std::vector<double> losses, std::vector<double> norms) {
  losses_ = std::move(losses);
  norms_ = std::move(norms);
}

}  // namespace switchyard
