#pragma once

#include <cstdint>
#include <string>

#include "config/run_config.h"

namespace switchyard {

/// A rank of a world that is not there; hosts have `ranks_per_host` neighbours each.
struct SimulatedPlace {
  int world_size = 1, rank = 0, ranks_per_host = 8;
};

/// What that rank of a run of `config` holds and sends in a step, as text: model, layout, bytes per
/// rank as describe_run tells them, then what was built and counted. Where memory and work of
/// the rank's step are within this machine's reach it takes the step, on random tokens with
/// simulated communicators (simulated_communicator.h); otherwise it builds the rank's parameters
/// without memory and goes through the step's calls with tensors of their shapes, tokens spread
/// evenly over the experts.
///
/// Every buffer and every byte is held against `plan`'s prediction: c10::Error where they differ.
/// Throws ConfigError when the layout does not fit. Reads meta.json where the vocabulary is
/// `auto`, else no data.
std::string simulate_run(RunConfig config, const SimulatedPlace& place);

}  // namespace switchyard
