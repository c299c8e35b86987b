#include "checkpoint/retention.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/step_folder.h"

namespace switchyard {
namespace {

bool is_ours(const std::string& step_dir) {
  if (std::filesystem::is_symlink(step_dir)) return false;
  try {
    CheckpointReader reader(step_dir);
    return true;
  } catch (const DataError&) {
    return false;
  }
}

/// "step-...", or "" when there is no `latest`.
std::string published_name(const std::string& checkpoints_dir) {
  const std::string pointer = checkpoints_dir + "/latest";
  if (!path_exists(pointer)) return "";
  const std::string text = read_file(pointer, /*max_bytes=*/256);
  return text.substr(0, text.find('\n'));
}

/// Gives the folders temporary names before anything in them goes: a power cut may
/// keep the removals and lose a name that nobody waited for.
void delete_steps(const std::string& checkpoints_dir, const std::vector<std::string>& step_dirs) {
  std::vector<std::string> doomed;
  for (const std::string& step_dir : step_dirs) {
    doomed.push_back(step_dir + ".tmp-" + random_save_id());
    rename_path(step_dir, doomed.back());
  }
  sync_folder(checkpoints_dir);
  for (const std::string& folder : doomed) remove_tree(folder);
}

}  // namespace

std::vector<std::string> retain(const std::string& checkpoints_dir, int64_t keep) {
  std::vector<std::string> deleted;
  if (keep <= 0) return deleted;
  const std::string published = published_name(checkpoints_dir);
  int64_t kept = 0;
  for (const int64_t step : list_steps(checkpoints_dir)) {
    const std::string name = step_folder_name(step);
    const std::string folder = checkpoints_dir + "/" + name;
    if (!is_ours(folder)) continue;
    if (++kept > keep && name != published) deleted.push_back(folder);
  }
  std::reverse(deleted.begin(), deleted.end());
  if (!deleted.empty()) delete_steps(checkpoints_dir, deleted);
  return deleted;
}

std::vector<std::string> remove_abandoned(const std::string& checkpoints_dir) {
  std::vector<std::string> removed;
  if (!path_exists(checkpoints_dir)) return removed;
  for (const std::string& name : list_folder(checkpoints_dir)) {
    if (is_temporary_name(name)) removed.push_back(checkpoints_dir + "/" + name);
  }
  // One may hold what a save has replaced and not yet made durable.
  if (!removed.empty()) sync_folder(checkpoints_dir);
  for (const std::string& folder : removed) remove_tree(folder);
  return removed;
}

}  // namespace switchyard
