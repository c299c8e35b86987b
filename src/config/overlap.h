#pragma once

#include <string>

#include "config/run_config.h"

namespace switchyard {

/// `auto` is on where communication goes on by itself beside what is computed: with NCCL. MPI wants
/// a rank's own time for it, so there it would only cost.
inline bool is_overlapped(const std::string& choice, const RunConfig& config) {
  const bool by_itself = config.train.device == "cuda" && config.parallel.gpu_transport == "nccl";
  return choice == "on" || (choice == "auto" && by_itself);
}

/// Whether gradients are reduced while backward runs.
inline bool overlaps_reduction(const RunConfig& config) {
  return is_overlapped(config.parallel.overlap_grad_reduce, config);
}

/// Whether weights are gathered while forward runs.
inline bool overlaps_gather(const RunConfig& config) {
  return is_overlapped(config.parallel.overlap_param_gather, config);
}

}  // namespace switchyard
