#include "train/save_model.h"

#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/save_checkpoint.h"
#include "config/load_config.h"

namespace switchyard {
namespace {

/// The same answer on every rank, from rank 0's look. Collective.
void refuse_if_taken(Communicator& world, const std::string& out) {
  const bool taken =
      world.rank() == 0 && path_exists(out) && !(is_folder(out) && std::filesystem::is_empty(out));
  if (broadcast_text(world, taken ? "taken" : "", /*root=*/0, "the folder to write") == "taken") {
    throw ConfigError("--out: " + out + " is there already; name a new folder, or remove it");
  }
}

}  // namespace

void save_model(Communicator& world, ModelSource& model, const std::string& out) {
  refuse_if_taken(world, out);
  CheckpointInfo info;
  info.step = model.step;
  info.world = world.size();
  info.config_yaml = to_yaml(model.config);
  info.state = model.state;
  info.files = model.files;
  save_checkpoint(world, out + "/checkpoints", info,
                  slices_of(*model.tensors, world.rank(), world.size()));
}

}  // namespace switchyard
