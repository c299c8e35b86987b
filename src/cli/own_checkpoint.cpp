#include "cli/own_checkpoint.h"

#include "base/error.h"
#include "hf/hf_folder.h"

namespace switchyard {

std::string own_checkpoint(const std::string& argument, Damaged damaged) {
  if (is_hf_folder(argument)) {
    throw ConfigError(
        argument +
        " is a Hugging Face folder, without digests or a manifest; `switchyard import "
        "--from " +
        argument + " --out RUN` makes a checkpoint of it");
  }
  return resolve_checkpoint(argument, damaged);
}

}  // namespace switchyard
