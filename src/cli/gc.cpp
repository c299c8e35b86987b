#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>

#include "base/error.h"
#include "base/file.h"
#include "base/file_lock.h"
#include "checkpoint/retention.h"
#include "cli/command.h"

namespace switchyard {
namespace {

struct GcFlags {
  std::string run;
  int64_t keep = 0;
};

std::string checkpoints_dir_of(const std::string& run) {
  const std::string inside = run + "/checkpoints";
  if (is_folder(inside)) return inside;
  if (!is_folder(run)) throw DataError(run + ": no such folder");
  return run;
}

/// Throws DataError while a job runs in the folder that holds these checkpoints. Null where
/// none can: a run's are in NAME/checkpoints, the lock is NAME/lock.
std::unique_ptr<FileLock> lock_run_of(const std::string& checkpoints_dir) {
  const std::filesystem::path path = std::filesystem::weakly_canonical(checkpoints_dir);
  if (path.filename() != "checkpoints") return nullptr;
  return std::make_unique<FileLock>((path.parent_path() / "lock").string());
}

ExitCode run_gc(const GcFlags& flags, const Runtime& runtime) {
  if (flags.keep < 1) throw ConfigError("--keep: must be at least 1; gc never deletes all");
  if (runtime.rank() != 0) return kExitOk;
  const std::string folder = checkpoints_dir_of(flags.run);
  const std::unique_ptr<FileLock> lock = lock_run_of(folder);
  std::string text;
  for (const std::string& removed : remove_abandoned(folder)) {
    text += "deleted " + removed + ": left by a save or a deletion that was killed\n";
  }
  const Retention retention = plan_retention(folder, flags.keep, Assurance::kVerify);
  delete_checkpoints(retention.doomed);
  for (const std::string& deleted : retention.doomed) text += "deleted " + deleted + "\n";
  for (const KeptFolder& kept : retention.kept) {
    text += "kept    " + kept.folder + ": " + kept.reason + "\n";
  }
  print_once(runtime, text);
  return kExitOk;
}

}  // namespace

Command add_gc(CLI::App& app) {
  auto flags = std::make_shared<GcFlags>();
  CLI::App* command =
      app.add_subcommand("gc", "Delete a run's older checkpoints, and what killed saves have left");
  command->add_option("run", flags->run, "A run folder, or its checkpoints folder")
      ->type_name("RUN")
      ->required();
  command
      ->add_option("--keep", flags->keep,
                   "Checkpoints to keep, at least 1: the newest; and the one `latest` names")
      ->type_name("CHECKPOINTS")
      ->required();
  command->footer("Example: switchyard gc runs/quickstart --keep 2");
  return {command, [flags](const Runtime& runtime) { return run_gc(*flags, runtime); }};
}

}  // namespace switchyard
