#pragma once

#include <string>

#include "config/run_config.h"
#include "optim/parameter_store.h"

namespace switchyard {

// The lines that say what runs, at the head of a run's log and of `train --dry-run`.

/// "model    12.3M parameters, 4.5M active; 4 layers of width 256, ..."
std::string model_line(const RunConfig& config);

/// "layout   4 ranks = EP 2 x EDP 2, ZeRO-1, bf16; batch 8 x 256 tokens, ..."
std::string layout_line(const RunConfig& config, int world_size);

/// "memory   per rank: weights 1.2 GiB, gradients ..., optimizer ..."
std::string memory_line(const ParameterBytes& bytes);

/// What would run, as text: model, layout, bytes per rank, tokens per step, advice.
/// Builds no model and touches no data but its meta.json.
std::string describe_run(RunConfig config, int world_size);

}  // namespace switchyard
