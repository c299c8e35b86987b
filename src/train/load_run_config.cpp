#include "train/load_run_config.h"

#include "base/error.h"
#include "config/load_config.h"
#include "train/model_source.h"
#include "train/snapshot.h"

namespace switchyard {

RunConfig load_run_config(const std::string& path, const std::vector<std::string>& sets,
                          int world_size) {
  const RunConfig written = load_config(path, sets, world_size);
  if (!written.checkpoint.load_from) return written;
  const ModelSource source = open_model(*written.checkpoint.load_from);
  const RunConfig config = load_config(path, sets, world_size, source.config, source.path());
  check_same_model(config, source.config, source.path());
  return config;
}

}  // namespace switchyard
