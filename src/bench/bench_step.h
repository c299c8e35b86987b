#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "bench/rounds.h"
#include "config/run_config.h"
#include "distributed/runtime.h"

namespace switchyard {

struct StepBench {
  Rounds rounds;
  int64_t gemm_size = 4096;  // of the product that is the peak
  bool balanced = false;     // with balanced_routing
  std::string note;
};

/// `config` with a router that spreads tokens evenly and needs no training: a table from token
/// ids to experts (hash layers), filled by how often each token occurs.
RunConfig balanced_routing(RunConfig config);

/// The optimizer step of a run on random tokens, first_s to step_s in the keys of
/// scripts/bench/peers (workloads.py), and:
///
///   mfu              share of peak_gflops, the GEMM peak of all ranks, measured after the steps
///   flops_per_token  see ModelSize
///   peak_rss_bytes   of each rank, before the peak is measured
///   phases           share of the step of each part (phase_clock.h) on rank 0, over a few
///                    steps of their own; sum 1. None on a GPU, whose work the host only enqueues
///   comm_share       of the step: in collectives, waiting included; exchange_share: all-to-alls
///   wire_bytes       per step, all ranks together: exchange as counted, with the counts that
///                    announce the rows; exchange_expected, the rows alone: choices that leave
///                    their rank x width x element, 4 times; reduction and gather as planned
///                    (step_volumes.h)
///   max_load         fullest expert / mean, the mean over MoE layers; max_rank_load: the rank
///                    whose experts get most / mean; dropped: share of choices
///
/// Collective over all ranks. Throws ConfigError without a vocabulary size.
nlohmann::json bench_step(const Runtime& runtime, const RunConfig& config, const StepBench& bench);

}  // namespace switchyard
