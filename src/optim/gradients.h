#pragma once

#include "optim/parameter_store.h"

namespace switchyard {

/// Sums the gradients of a step: dense over the world, experts over the ranks
/// that hold the same experts (the backward of the all-to-all has already
/// brought the other ranks' contributions). SUM everywhere, never a mean: the
/// losses were divided by the whole step's tokens.
///
/// Afterwards a rank's shard of each gradient buffer holds the sum; at ZeRO stage
/// 0 the whole buffer does. At stage 2 backward has brought the sums already, nothing
/// is sent. Frozen parts' gradients are zero, so that they count in no norm. Collective
/// over the group of each kind.
void reduce_gradients(ParameterStore& store);

// What it is made of, for others that reduce (bucketed_reduction.h).

/// Of buffers that shard gradients, whose sums backward has begun: waits for them, and clears those
/// of frozen parts.
void finish_sharded_gradients(ParameterStore& store);

/// Those of frozen parts in `range` of a buffer, as far as this rank holds them: backward has
/// filled those that share a leaf with others. Local.
void clear_frozen_gradients(const ParameterStore& store, ParameterStore::Buffer& buffer,
                            Interval range);
const char* reduction_purpose(ParameterKind kind);

/// L2 norms over all parameters of the model, each element counted once.
struct GradientNorms {
  double total = 0, dense = 0, expert = 0;
};

/// Sums squares in float64 over the shards of reduced gradients; one all-reduce
/// on `world` (every rank must call). The host waits for gradients that are on a GPU. Not finite
/// when any gradient is not.
GradientNorms gradient_norms(const ParameterStore& store, Communicator& world);

/// What gradients are multiplied by so that their norm is at most `max_norm`:
/// min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_ does.
/// `max_norm` 0 turns clipping off.
double clip_coefficient(double norm, double max_norm);

}  // namespace switchyard
