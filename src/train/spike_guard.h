#pragma once

#include <vector>

#include "config/run_config.h"
#include "metrics/score_window.h"

namespace switchyard {

/// Measures the loss and the gradient norm of each step against those of the last ones, and
/// tells a spike by the rule of OLMo 2 (arXiv:2501.00656, section 3.4): above mean + sigmas *
/// deviation of a window, once half of that window is filled. Spikes enter the window too,
/// so a level that has moved for good is one spike only. What it holds is the same on all
/// ranks, and is kept in checkpoints.
class SpikeGuard {
 public:
  explicit SpikeGuard(const SpikeConfig& config)
      : config_(config), losses_(config.window), norms_(config.window) {}

  struct Verdict {
    double loss_z, norm_z;  // as ScoreWindow::score
    bool spike;             // never with action `none`
  };

  /// Of the next step, whose numbers are finite and part of the window afterwards.
  Verdict look_at(double loss, double norm);

  const std::vector<double>& losses() const { return losses_.values(); }
  const std::vector<double>& norms() const { return norms_.values(); }
  void restore(std::vector<double> losses, std::vector<double> norms);

 private:
  SpikeConfig config_;
  ScoreWindow losses_, norms_;
};

}  // namespace switchyard
