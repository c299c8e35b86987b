#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "config/run_config.h"
#include "moe/routing.h"

namespace switchyard {

/// What balance losses take from a scope wider than this rank's micro-batch, per MoE layer:
/// the counts of load fractions f, and the sums that other losses are functions of (see
/// balance_sums.h). Float64 sums over all ranks.
struct StepCounts {
  at::Tensor all_LE;                  // (L, E) assignments over all choices
  at::Tensor first_LE;                // (L, E) first choices
  double tokens = 0;                  // routed tokens of the step, each counted once
  std::vector<at::Tensor> sums = {};  // of each entry of moe.balance (L, S), or undefined

  bool defined() const { return all_LE.defined(); }
  /// The same there. From a GPU to the host, the host waits.
  StepCounts to(c10::Device device) const;
};

/// Sums this rank's records of one micro-batch into `total` (made on first use).
void add_counts(const std::vector<RouterRecord>& records, StepCounts& total);

/// The same with the sums of the entries of moe.balance that need them beyond this
/// micro-batch: those of scope `global` or `micro_batch`.
void add_counts(const std::vector<RouterRecord>& records, const MoeConfig& moe, StepCounts& total);

/// Uniform counts: what `global_lagged` starts from at step 1.
StepCounts uniform_counts(int64_t layers, const MoeConfig& moe);

/// Which StepCounts each scope takes its load fractions and sums from.
struct BalanceCounts {
  StepCounts global;       // of this very step, exact
  StepCounts lagged;       // of the previous step
  StepCounts micro_batch;  // of this micro-batch over all ranks
};

/// The router losses of one micro-batch on this rank, on its device.
struct RouterLosses {
  at::Tensor objective;  // scalar: all terms with their coefficients, in the graph
  at::Tensor aux;  // () float64: unscaled, layer-reduced, summed over the entries of moe.balance
  at::Tensor z;    // () float64: unscaled, layer-reduced
};

/// Balance losses, the router z-loss and the penalties that routers bring themselves
/// (regularizer_T, in the objective alone, as a mean over layers), each a sum over this
/// micro-batch's tokens divided by `step_tokens`, the routed tokens of the whole optimizer
/// step over all ranks and micro-batches: summed over those, they are the means that
/// the papers define.
///
/// A loss F that is no sum over tokens is taken of each routing group, weighted by its tokens.
/// In a wider scope it is F(S) of that scope's sums S: this micro-batch's share by its tokens,
/// with the gradient of F at S through its own part of S. So summed over micro-batches and
/// ranks, value and gradient are F's. Such a loss, `communication` and `sequence` (whose
/// scope is each sequence) have no scope `global_lagged`; a loss that is a mean over all
/// tokens ignores the scope.
///
/// A layer's balance_coef_N replaces the entries' `coef`. A loss of one `domain` is 0 in a
/// group that has none of its tokens: only scope `global` is the mean over the domain.
///
/// Local: the counts in `counts` were reduced before. Throws c10::Error when they or a
/// router's part are missing, or the scope is not one of the loss.
RouterLosses router_losses(const std::vector<RouterRecord>& records, const MoeConfig& moe,
                           const BalanceCounts& counts, double step_tokens);

/// Whether some balance loss has this scope.
bool uses_scope(const MoeConfig& moe, const std::string& scope);

}  // namespace switchyard
