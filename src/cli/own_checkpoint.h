#pragma once

#include <string>

#include "checkpoint/step_folder.h"

namespace switchyard {

/// resolve_checkpoint for the commands that look at what only Switchyard's checkpoints
/// have: digests, slices, a step. A Hugging Face folder is a ConfigError that says how to
/// make one of it.
std::string own_checkpoint(const std::string& argument, Damaged damaged = Damaged::kPassOver);

}  // namespace switchyard
