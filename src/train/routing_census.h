#pragma once

#include <cstdint>
#include <vector>

#include "distributed/mesh.h"
#include "metrics/histogram.h"
#include "moe/routing.h"

namespace switchyard {

/// Where the tokens of one training step went on this rank, and what made the routers send
/// them there. Only steps that are recorded are looked at: adding is local, and reads every
/// logit once.
class RoutingCensus {
 public:
  /// One micro-batch's records, one per MoE layer.
  void add(const std::vector<RouterRecord>& records);

  bool empty() const { return kept_E_.empty(); }

  /// Copies that each rank sent to each, after drops, in all MoE layers and micro-batches:
  /// W * W numbers, the senders' rows one after another. Collective over the mesh's expert
  /// group and its world.
  std::vector<int64_t> exchanged(const Mesh& mesh) const;

  /// Of each MoE layer's router logits, over all ranks, in at most 64 bins; empty for
  /// routers without any. Collective.
  std::vector<Histogram> router_logits(Communicator& world) const;

 private:
  std::vector<int64_t> kept_E_;  // of all MoE layers
  std::vector<FineHistogram> logits_L_;
};

}  // namespace switchyard
