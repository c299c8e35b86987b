#pragma once

#include <string>

#include "base/error.h"
#include "config/run_config.h"
#include "distributed/runtime.h"

namespace switchyard {

/// `train --resume`: kNewest (auto) goes on from the run's newest valid checkpoint if it
/// has one, kStrict insists on one, kNever starts over and puts the old
/// checkpoints aside, kPath takes the named one. The run's checkpoints of steps after
/// the one that it goes on from are put aside too.
struct ResumeOptions {
  enum class Mode { kNewest, kStrict, kNever, kPath } mode = Mode::kNewest;
  std::string path;
};

/// Trains `config` to `train.steps`: the loop of steps, log lines, evaluations
/// and checkpoints. Collective over the job. Returns the exit code. Throws
/// ConfigError and DataError before anything is written when the input is wrong,
/// NonFiniteError after `train.max_skipped_steps` skipped steps in a row.
ExitCode run_training(const Runtime& runtime, RunConfig config, const ResumeOptions& resume);

/// `train --dry-run`: what would run, as text: model, layout, bytes per rank,
/// tokens per step. Builds no model and touches no data but its meta.json.
std::string describe_run(RunConfig config, int world_size);

}  // namespace switchyard
