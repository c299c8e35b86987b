#pragma once

#include <limits>
#include <vector>

#include "data/training_data.h"
#include "metrics/span.h"
#include "optim/gradients.h"
#include "train/routing_census.h"
#include "train/session.h"

namespace switchyard {

/// What a step computed, the same on every rank but for `phases` and
/// `exchanged_bytes`.
struct StepReport {
  double loss = 0;        // cross-entropy per target token, nats
  double aux = 0, z = 0;  // unscaled, layer-reduced
  GradientNorms norms;    // before clipping
  bool finite = true;     // loss and every gradient
  bool spike = false;     // finite, but left out: see spike_guard.h
  double loss_z = std::numeric_limits<double>::quiet_NaN();  // see spike_guard.h; NaN: unknown
  double norm_z = std::numeric_limits<double>::quiet_NaN();
  double lr = 0;
  StepCounts counts;                         // routing of the whole step, before drops
  std::vector<double> dropped_L, entropy_L;  // per MoE layer: share dropped, mean entropy in nats
  PhaseTimes phases;                         // of this rank
  int64_t exchanged_bytes = 0;               // that this rank sent away in all-to-alls
};

/// Routing decisions of a step on this rank, for comparing layouts: one record per
/// micro-batch and MoE layer, in that order, with the samples they belong to.
struct RoutingTrace {
  struct Entry {
    int64_t layer;          // MoE layer, counted from 0
    at::Tensor order_B;     // (B) int64: samples of the micro-batch in the run's order
    at::Tensor experts_TK;  // (T, K) int64, on the host
    at::Tensor kept_TK;     // (T, K) bool, on the host
  };
  std::vector<Entry> entries;
};

/// One micro-batch of this rank, as the model takes it: on the host, from which a step copies it
/// to the model's device.
struct MicroBatch {
  DecoderInput input;
  at::Tensor targets_T;  // (B * S) int64
};

/// Shapes samples of S + 1 tokens into inputs and targets; with
/// `data.mask_documents`, marks the documents that `end_of_text` separates.
MicroBatch make_micro_batch(const SampleBatch& samples, const RunConfig& config,
                            int64_t end_of_text);

/// The same to be evaluated: capacity as in evaluation and per sequence, and what is behind
/// the end of a sequence (`samples.valid`) neither routed nor a target.
MicroBatch make_eval_batch(const SampleBatch& samples, const RunConfig& config,
                           int64_t end_of_text);

/// This rank's micro-batches of the next global batch, from sample
/// `progress().cursor` on: rank r takes the r-th of W equal runs of samples. Local.
std::vector<MicroBatch> read_step(const Session& session, const TrainingData& data);

/// Forward and backward of one global batch, then the reduction of gradients (one
/// rule: sums over tokens divided by the whole step's tokens; SUM over ranks) and
/// their norms. Changes gradients only. Where the model is on a GPU the host waits for it once per
/// MoE layer and micro-batch (dispatcher.h), once for the sums and once for the norms. Collective
/// over all groups of the mesh; every rank brings the same number of micro-batches. `trace` and
/// `census`, which are filled, may be null.
StepReport compute_gradients(Session& session, const std::vector<MicroBatch>& batches,
                             RoutingTrace* trace = nullptr, RoutingCensus* census = nullptr);

/// One optimizer step: compute_gradients; then, when everything is finite, clip,
/// AdamW, gather the weights, and update the router's state. A step with a
/// non-finite loss or gradient is skipped by all ranks together and leaves
/// weights, moments and router state as they were; so does a spike, where the config
/// looks for them. Progress moves on either way.
/// Collective over all groups of the mesh.
StepReport train_step(Session& session, const std::vector<MicroBatch>& batches,
                      RoutingCensus* census = nullptr);

}  // namespace switchyard
