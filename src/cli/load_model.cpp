#include "cli/load_model.h"

#include <numeric>

#include "base/error.h"
#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/step_folder.h"
#include "config/load_config.h"
#include "train/snapshot.h"

namespace switchyard {

LoadedModel load_model(const Runtime& runtime, const std::string& checkpoint,
                       const std::string& precision) {
  if (precision != "fp32" && precision != "bf16" && precision != "auto")
    throw ConfigError("--precision: `" + precision + "` is not one of fp32, bf16, auto");
  LoadedModel model;
  model.step_dir = resolve_checkpoint(checkpoint);
  CheckpointReader reader(model.step_dir);
  RunConfig config =
      parse_config(reader.read_text(kConfigName), model.step_dir + "/" + kConfigName);
  config.train.precision = precision;
  config.train.threads = kAuto;
  config.parallel.expert =
      std::gcd(static_cast<int64_t>(runtime.world_size()), config.moe.num_experts);
  model.session = std::make_unique<Session>(runtime, config);
  load_snapshot(*model.session, model.step_dir, Restore::kWeights);
  model.session->progress().step = reader.manifest().step;
  return model;
}

}  // namespace switchyard
