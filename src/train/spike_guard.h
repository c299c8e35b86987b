#pragma once

#include <cstdint>
#include <vector>

#include "config/run_config.h"

namespace switchyard {

/// Tells a spike of the loss or of the gradient norm from its last values, by the rule of
/// OLMo 2 (arXiv:2501.00656, section 3.4): above mean + sigmas * deviation of a window,
/// once half of that window is filled. Spikes enter the window too, so a level that has
/// moved for good is one spike only. What it holds is the same on all ranks, and is kept
/// in checkpoints.
class SpikeGuard {
 public:
  explicit SpikeGuard(const SpikeConfig& config) : config_(config) {}

  /// Whether these are a spike, after which they are part of the window. Never with
  /// action `none`.
  bool is_spike(double loss, double norm);

  const std::vector<double>& losses() const { return losses_; }
  const std::vector<double>& norms() const { return norms_; }
  void restore(std::vector<double> losses, std::vector<double> norms);

 private:
  bool stands_out(double value, const std::vector<double>& window) const;

  SpikeConfig config_;
  std::vector<double> losses_, norms_;  // oldest first
};

}  // namespace switchyard
