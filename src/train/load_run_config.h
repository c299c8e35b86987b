#pragma once

#include <string>
#include <vector>

#include "config/run_config.h"

namespace switchyard {

/// load_config (config/load_config.h) and, with `checkpoint.load_from`, what it leaves out
/// of `model` and `moe` from that checkpoint: the config of a run as it is going to be, but
/// for what its data decide. Throws ConfigError that lists the keys, when those that are
/// given describe another model than the checkpoint's; DataError when there is none.
RunConfig load_run_config(const std::string& path, const std::vector<std::string>& sets,
                          int world_size);

}  // namespace switchyard
