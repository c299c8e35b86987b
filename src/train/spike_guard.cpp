#include "train/spike_guard.h"

#include <algorithm>
#include <utility>

namespace switchyard {

SpikeGuard::Verdict SpikeGuard::look_at(double loss, double norm) {
  Verdict verdict{losses_.score(loss), norms_.score(norm), false};
  const bool stands_out = verdict.loss_z > config_.sigmas || verdict.norm_z > config_.sigmas;
  verdict.spike = config_.action != "none" && stands_out;
  losses_.push(loss);
  norms_.push(norm);
  return verdict;
}

void SpikeGuard::restore(std::vector<double> losses, std::vector<double> norms) {
  losses_.restore(std::move(losses));
  norms_.restore(std::move(norms));
}

}  // namespace switchyard
