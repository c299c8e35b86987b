#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "config/run_config.h"
#include "moe/routing.h"

namespace switchyard {

/// Load fractions decided for a whole step, per MoE layer: f of the scopes
/// `global` and `global_lagged`. Counts are float64 sums over all ranks.
struct StepCounts {
  at::Tensor all_LE;    // (L, E) assignments over all choices
  at::Tensor first_LE;  // (L, E) first choices
  double tokens = 0;    // routed tokens of the step, each counted once

  bool defined() const { return all_LE.defined(); }
};

/// Sums this rank's records of one micro-batch into `total` (made on first use).
void add_counts(const std::vector<RouterRecord>& records, StepCounts& total);

/// Uniform counts: what `global_lagged` starts from at step 1.
StepCounts uniform_counts(int64_t layers, const MoeConfig& moe);

/// Which StepCounts each scope takes its load fractions from.
struct BalanceCounts {
  StepCounts global;       // of this very step, exact
  StepCounts lagged;       // of the previous step
  StepCounts micro_batch;  // of this micro-batch over all ranks
};

/// The router losses of one micro-batch on this rank.
struct RouterLosses {
  at::Tensor objective;  // scalar: all terms with their coefficients, in the graph
  double aux = 0;        // unscaled, layer-reduced, summed over the entries of moe.balance
  double z = 0;          // unscaled, layer-reduced
};

/// Balance losses and the router z-loss, each a sum over this micro-batch's
/// tokens divided by `step_tokens`, the routed tokens of the whole optimizer step
/// over all ranks and micro-batches: summed over those, they are the means that
/// the papers define. Local: the counts in `counts` were reduced before.
RouterLosses router_losses(const std::vector<RouterRecord>& records, const MoeConfig& moe,
                           const BalanceCounts& counts, double step_tokens);

/// Whether some balance loss has this scope.
bool uses_scope(const MoeConfig& moe, const std::string& scope);

}  // namespace switchyard
