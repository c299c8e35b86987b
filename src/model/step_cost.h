#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "config/cost_model.h"
#include "config/run_config.h"

namespace switchyard {

/// What one rank does in one optimizer step, routing balanced, from the config alone. Counted
/// for the blocked products (ops/blocked_gemm.h) and for attention without a mask.
///
///   R rows at each of a rank's experts, T tokens of a micro-batch, w bytes of an element
struct StepWork {
  /// Of products as they are computed: attention with all keys of a block, for the rest
  /// 6 per weight and token; experts with their rows filled up to multiples of 16 (for the
  /// gradients of weights, 32), on average 7.5 (15.5) more, less where R < 1.
  double dense_flops = 0, expert_flops = 0;
  double scores = 0;  // query-key pairs of all heads, in blocks of 64 x 64
  /// 4 x what forward keeps: written, read, and its gradient so, too; and for each logit 8 + 3 w:
  /// written and read, and its gradient written and read twice.
  double activation_bytes = 0;
  /// For each weight of a product and micro-batch: 2 w per 1,024 rows, of experts per 512 (packed
  /// in forward and in backward), 8 per 512 rows (added to its gradient); where R < 1, R times
  /// that.
  double weight_bytes = 0;
  /// 4 per gradient held (set to zero) and, per element owned, 4 (norm) + 28 (AdamW reads weight,
  /// gradient and two moments, writes three of them) + 2 in bf16.
  double optimizer_bytes = 0;
  double layers = 0;  // x micro-batches

  /// All-to-alls: one of counts and two of rows in forward, two in backward; to each of EP - 1
  /// ranks one message of counts, and of rows one for each of its experts. Bytes as in StepVolumes.
  double exchange_messages = 0, exchange_bytes = 0;
  /// Reductions and gathers as rings, G - 1 messages (all-reduces 2 (G - 1)) for each buffer or, at
  /// ZeRO-2, for each of about 5 dense and 2 expert leaves of a layer in every micro-batch; and
  /// three small all-reduces of 2 log2 W.
  double reduction_messages = 0, reduction_bytes = 0;
};

/// Of a config whose autos are resolved; world_size is a multiple of parallel.expert. What
/// train.recompute computes again is not counted: it is taken as `none`. Local, builds nothing.
StepWork step_work(RunConfig config, at::ScalarType compute, int64_t world_size);

/// Seconds of one step by part, one after another: nothing is overlapped.
struct StepCost {
  double products = 0, scores = 0, activations = 0, weights = 0, optimizer = 0, layers = 0;
  double exchange = 0, reduction = 0;
  double wait = 0;  // for the rank whose experts get more rows than the others'

  double total() const {
    return products + scores + activations + weights + optimizer + layers + exchange + reduction +
           wait;
  }
};

/// Threads of a rank: train.threads, or where that is auto a host's cores shared out.
int64_t planned_threads(const RunConfig& config, const CostModel& costs, int64_t world_size);

/// Whether the ranks are more than one host has.
inline bool spans_hosts(const CostModel& costs, int64_t world_size) {
  return world_size > costs.ranks_per_host;
}

/// The work at these costs. Threads divide all that is computed but `layers`. Ranks fill hosts in
/// their order: rows go to ranks of the same host by `host`, to others by `network`; reductions of
/// a world on several hosts go at the speed of the network.
///
///   imbalance  rows of the fullest rank over the mean, at least 1; with EP = 1 without effect
///
/// Throws ConfigError where the ranks need a network and the file states none.
StepCost step_cost(const StepWork& work, const RunConfig& config, at::ScalarType compute,
                   int64_t world_size, const CostModel& costs, double imbalance);

}  // namespace switchyard
