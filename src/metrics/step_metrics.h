#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "metrics/span.h"

namespace switchyard {

/// How one MoE layer routed the tokens of a step, over all ranks and
/// micro-batches. In metrics.jsonl: `moe.L.max_load` and so on, L = `layer`.
struct MoeLayerMetrics {
  int64_t layer = 0;         // the decoder layer, counted from 0
  double max_load = 1;       // busiest expert / mean expert, before drops; 1 is perfect balance
  double dropped = 0;        // share of the routed copies that capacity dropped
  double entropy = 0;        // of the router's probabilities, mean over tokens, in nats
  std::vector<double> load;  // each expert's share of the routed copies, before drops; sums to 1
  std::vector<int64_t> copies = {};  // of each expert, before drops

  int64_t dead() const;  // experts without a copy
};

/// `load` and `max_load` from the copies routed to each expert of a layer.
/// Without any copies every expert's share is 0 and max_load is 1.
MoeLayerMetrics layer_metrics(int64_t layer, const std::vector<int64_t>& copies_E);

/// One logged step, the same on every rank. The field names are the keys of
/// metrics.jsonl. Losses are in nats; what could not be computed is NaN.
struct StepMetrics {
  int64_t step = 0;             // optimizer steps done, this one included
  int64_t tokens = 0;           // target tokens trained on since step 0, over all ranks
  double loss = 0;              // cross-entropy alone, per target token
  double aux_loss = 0;          // balance loss, unscaled, layer-reduced
  double z_loss = 0;            // router z-loss, unscaled, layer-reduced
  double grad_norm = 0;         // before clipping, like the next two
  double grad_norm_dense = 0;   // of the dense parameters, router included
  double grad_norm_expert = 0;  // of the experts
  double lr = 0;
  double step_ms = 0;            // wall time per step since the last record, data wait included
  double tokens_per_second = 0;  // of the whole world over the same time
  double mfu = 0;                // model FLOPs / (time * peak FLOPs), 0 to 1
  PhaseTimes phases;             // per step since the last record, the slowest rank's
  int64_t peak_rss_bytes = 0;    // the largest rank's
  int64_t skipped_steps = 0;     // steps left out for non-finite gradients, since step 0
  // How far loss and norm stand from those of the last steps, in their standard deviations; see
  // train/spike_guard.h.
  double loss_z = std::numeric_limits<double>::quiet_NaN();
  double grad_norm_z = std::numeric_limits<double>::quiet_NaN();
  // Work is a rank's time outside collectives, per step since the last record.
  int64_t slowest_rank = 0;
  double slowest_rank_ms = 0;        // of work
  double typical_rank_ms = 0;        // the lower median over ranks
  int64_t exchange_bytes = 0;        // that left their rank in this step's all-to-alls, over ranks
  std::vector<MoeLayerMetrics> moe;  // by layer; empty for a dense model
};

/// One evaluation of a split. Every target token weighs the same.
struct EvalMetrics {
  int64_t step = 0;
  std::string split = "val";            // the key `eval`
  double loss = 0;                      // nats per target token
  std::optional<double> bits_per_byte;  // where the data knows its bytes
  int64_t tokens = 0;
  double perplexity() const;  // exp(loss)
};

}  // namespace switchyard
