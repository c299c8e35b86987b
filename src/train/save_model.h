#pragma once

#include <string>

#include "distributed/communicator.h"
#include "train/model_source.h"

namespace switchyard {

/// Writes a model as OUT/checkpoints/step-%08d (checkpoint/save_checkpoint.h), with
/// OUT/checkpoints/latest: a run's folder, so that OUT is a checkpoint argument and can be
/// trained from (checkpoint.load_from). The ranks share the tensors, one in memory at a
/// time; the bytes of each do not depend on how many ranks there are. `config`, `step`,
/// `state` and `files` are the model's. Killed at any moment it leaves no checkpoint behind
/// that anyone would take for one.
///
/// Collective. Throws ConfigError when OUT is there already and is no empty folder; every
/// rank throws the same error when any of them fails.
void save_model(Communicator& world, ModelSource& model, const std::string& out);

}  // namespace switchyard
