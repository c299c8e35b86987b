#include "metrics/health.h"

#include <cstdio>
#include <numeric>

namespace switchyard {

std::vector<std::string> Health::look_at(const StepMetrics& metrics) {
  std::vector<std::string> warnings;
  for (const MoeLayerMetrics& layer : metrics.moe) look_for_dead_experts(layer, warnings);
  if (!metrics.moe.empty()) look_at_drops(metrics, warnings);
  return warnings;
}

void Health::look_for_dead_experts(const MoeLayerMetrics& layer,
                                   std::vector<std::string>& warnings) {
  const auto& copies = layer.copies;
  const double balanced =
      std::accumulate(copies.begin(), copies.end(), 0.0) / static_cast<double>(copies.size());
  std::string dead;
  for (size_t e = 0; e < copies.size(); ++e) {
    const std::pair<int64_t, int64_t> expert = {layer.layer, e};
    if (copies[e] > 0) {
      silent_.erase(expert);
      continue;
    }
    Silence& silence = silent_[expert];
    silence.records += 1;
    silence.balanced_copies += balanced;
    const bool is_dead = silence.records >= kDeadRecords && silence.balanced_copies >= kDeadCopies;
    if (is_dead && named_.insert(expert).second) {
      dead += (dead.empty() ? "" : ", ") + std::to_string(e);
    }
  }
  if (dead.empty()) return;
  warnings.push_back("layer " + std::to_string(layer.layer) + ": no token goes to expert " + dead +
                     " any more; raise moe.balance.coef, or set moe.router.selection_bias: true, "
                     "and go back to a checkpoint from before (moe." +
                     std::to_string(layer.layer) + ".load in metrics.jsonl)");
}

void Health::look_at_drops(const StepMetrics& metrics, std::vector<std::string>& warnings) {
  double dropped = 0;
  for (const MoeLayerMetrics& layer : metrics.moe) {
    dropped += layer.dropped / static_cast<double>(metrics.moe.size());
  }
  dropped_.push_back(dropped);
  if (dropped_.size() > kDropRecords) dropped_.pop_front();
  const double mean =
      std::accumulate(dropped_.begin(), dropped_.end(), 0.0) / static_cast<double>(dropped_.size());
  if (said_drops_ || dropped_.size() < kDropRecords || mean <= kMuchDropped) return;
  said_drops_ = true;
  char percent[16];
  std::snprintf(percent, sizeof percent, "%.0f%%", 100 * mean);
  warnings.push_back("capacity drops " + std::string(percent) +
                     " of the routed tokens; raise moe.capacity.factor (null: nothing is "
                     "dropped), or moe.balance.coef");
}

}  // namespace switchyard
