#include "train/run_folder.h"

#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "checkpoint/retention.h"
#include "checkpoint/step_folder.h"
#include "config/load_config.h"
#include "metrics/jsonl.h"

namespace switchyard {
namespace {

using Mode = ResumeOptions::Mode;

/// Renames what a run that starts over would mix with its own: nothing is deleted.
void put_aside(const std::string& path) {
  if (!path_exists(path)) return;
  int number = 1;
  while (path_exists(path + ".old-" + std::to_string(number))) ++number;
  const std::string aside = path + ".old-" + std::to_string(number);
  rename_path(path, aside);
  sync_folder(folder_of(path));
  log_info("renamed  " + path + " to " + aside + ": this run does not go on from it");
}

/// Of the run's own files, by a job that was killed while it replaced them.
void remove_half_written(const std::string& run_dir) {
  for (const std::string& name : list_folder(run_dir)) {
    for (const char* file : {"config.yaml", "metrics.jsonl", "run.json", "routing.json"}) {
      if (name.starts_with(std::string(file) + ".tmp-")) remove_tree(run_dir + "/" + name);
    }
  }
}

}  // namespace

void RunFolder::lock_if_there() {
  if (!lock_ && is_folder(path_)) lock_ = std::make_unique<FileLock>(lock());
}

void RunFolder::open(const RunConfig& config, Mode mode, int64_t step) {
  make_folders(path_);
  lock_if_there();
  put_aside_what_is_abandoned(mode, step);
  remove_half_written(path_);
  make_folders(flight());
  if (config.run.tensorboard) make_folders(tensorboard());
  for (const std::string& left : remove_abandoned(checkpoints())) {
    log_info("removed " + left + ", which a killed job has left");
  }
  if (config.checkpoint.interval > 0) {
    make_folders(checkpoints());
    check_that_checkpoints_can_be_made();
  }
  write_file_atomically(path_ + "/config.yaml", to_yaml(config));
  truncate_after_step(metrics(), step);
}

/// Starting over abandons all of the old run; going on from a step abandons the
/// checkpoints of later ones, which a later `auto` must not take for this run's newest.
void RunFolder::put_aside_what_is_abandoned(Mode mode, int64_t step) const {
  if (mode == Mode::kNever) {
    put_aside(checkpoints());
    for (const std::string& of_old_run : {metrics(), run_record(), routing(), tensorboard()}) {
      put_aside(of_old_run);
    }
    return;
  }
  for (const int64_t later : list_steps(checkpoints())) {
    if (later > step) put_aside(checkpoints() + "/" + step_folder_name(later));
  }
}

void RunFolder::check_that_checkpoints_can_be_made() const {
  const std::string trial = checkpoints() + "/" + step_folder_name(0) + ".tmp-" + random_save_id();
  make_folder(trial);
  remove_tree(trial);
}

std::string checkpoint_to_resume(Communicator& world, const RunFolder& folder,
                                 const ResumeOptions& resume) {
  if (resume.mode == Mode::kNever) return "";
  if (resume.mode == Mode::kPath) {
    const std::string mine = world.rank() == 0 ? resolve_checkpoint(resume.path) : "";
    const std::string named = broadcast_text(world, mine, /*root=*/0, "resume decision");
    require_whole(world, named);
    return named;
  }
  std::vector<std::string> complaints;
  const std::string newest = newest_valid(world, folder.checkpoints(), &complaints);
  for (const std::string& complaint : complaints) log_warning("not resumed from: " + complaint);
  if (newest.empty() && resume.mode == Mode::kStrict) {
    throw ConfigError("--resume strict: " + folder.checkpoints() +
                      " has no checkpoint; use --resume auto to start a new run");
  }
  return newest;
}

}  // namespace switchyard
