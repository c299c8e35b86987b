#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "config/run_config.h"
#include "model/activation_plan.h"

namespace switchyard {

/// Bytes that one rank sends to other ranks in one optimizer step. Counts, which are a few
/// numbers per call, are left out.
struct StepVolumes {
  // All-to-alls of token rows; each as many in backward as in forward, twice as many where
  // layers are recomputed.
  int64_t dispatch_forward = 0, combine_forward = 0;
  int64_t dispatch_backward = 0, combine_backward = 0;
  int64_t reduction = 0;  // gradients, in float32
  int64_t gather = 0;     // weights after the update

  int64_t exchange() const {
    return dispatch_forward + combine_forward + dispatch_backward + combine_backward;
  }
};

/// What it takes to exchange token rows when `leaving` of them leave this rank, summed over
/// MoE layers and micro-batches, D elements of `compute` each, there and back. A step whose
/// balance losses are exact under accumulation (scope `global`) routes twice in forward.
StepVolumes exchange_volumes(const RunConfig& config, at::ScalarType compute, int64_t leaving);

/// With all experts chosen equally often; with `kWorst`, of the one rank that gets every
/// copy that can be: what it receives in dispatch and sends in combine. Gradients and weights
/// as collectives that send no byte twice do it (a ring): (G - 1) / G of a buffer for each
/// reduce-scatter and all-gather over G ranks, twice that for an all-reduce; at ZeRO stage
/// 2 gradients are reduced in every micro-batch. Of a config whose autos are resolved.
StepVolumes planned_volumes(const RunConfig& config, at::ScalarType compute, int64_t world_size,
                            RoutingCase routing);

/// Micro-batches of a step on each rank.
int64_t micro_batches(const RunConfig& config, int64_t world_size);

/// Whether a step of so many micro-batches routes them all once before it trains on them.
bool counts_first(const RunConfig& config, int64_t batches);

}  // namespace switchyard
