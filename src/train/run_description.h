#pragma once

#include <string>
#include <vector>

#include "config/run_config.h"
#include "data/training_data.h"
#include "metrics/run_record.h"
#include "model/memory_plan.h"
#include "model/model_size.h"
#include "train/session.h"

namespace switchyard {

// The lines that say what runs, at the head of a run's log and of `train --dry-run`.

/// "model    12.3M parameters, 4.5M active; 4 layers of width 256, ..."
std::string model_line(const RunConfig& config);

/// "layout   4 ranks = EP 2 x EDP 2, ZeRO-1, bf16; batch 8 x 256 tokens, ..."
std::string layout_line(const RunConfig& config, int world_size);

/// "memory   per rank: weights 1.2 GiB, gradients ..., optimizer ..., activations ...": what
/// `plan` tells in full.
std::string memory_line(const MemoryPlan& plan);

/// What the steps see of the data, and each source, in lines of their own:
///
///   data     819,200 tokens in 400 steps, 0.13 per active parameter
///            novels: 1,023,456 tokens, validation 51,234; 0.80 epochs
///
/// Of several sources each has its share of the samples, too. Opens the validation splits.
std::string data_lines(const TrainingData& data, const RunConfig& config, const ModelSize& size);

/// "run      runs/quickstart on a (2 ranks), b (2 ranks), going on from ...": `hosts` are those
/// of the ranks, `resumed_from` a checkpoint or "".
std::string run_line(const std::string& folder, const std::vector<std::string>& hosts,
                     const std::string& resumed_from);

/// What run.json says of a run, but for its starts and the peak of its processors.
RunRecord describe_run(const Session& session, const TrainingData& data);

/// What would run, as text: model, layout, bytes per rank, tokens per step, advice.
/// Builds no model and touches no data but its meta.json.
std::string describe_run(RunConfig config, int world_size);

}  // namespace switchyard
