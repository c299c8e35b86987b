#pragma once

#include <c10/core/Device.h>

#include <string>

namespace switchyard {

/// What `device` (`train.device`) names for this rank: the host's processors, or the GPU whose
/// number is `local_rank` (Runtime::local_rank), modulo those that this process may use, which
/// also becomes the current one. Local. Throws ConfigError that says what was looked for and not
/// found: a GPU, its driver, or CUDA in this build.
c10::Device select_device(const std::string& device, int local_rank);

}  // namespace switchyard
