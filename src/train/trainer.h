#pragma once

#include "base/error.h"
#include "config/run_config.h"
#include "distributed/runtime.h"
#include "metrics/live_console.h"
#include "train/run_folder.h"

namespace switchyard {

/// Trains `config` to `train.steps`: the loop of steps, log lines, evaluations
/// and checkpoints. Collective over the job. Returns the exit code: kExitPreempted when
/// a stop signal (base/stop_signal.h) came to any rank, after a checkpoint of the step
/// that was under way; where checkpoint.interval is 0 signals end the process instead.
/// Throws ConfigError and DataError before anything is written when the input is wrong,
/// NonFiniteError after `train.max_skipped_steps` skipped steps in a row. `style` is that of
/// the lines that rank 0 prints.
ExitCode run_training(const Runtime& runtime, RunConfig config, const ResumeOptions& resume,
                      ConsoleStyle style = {});

}  // namespace switchyard
