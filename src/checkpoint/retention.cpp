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

void delete_step(const std::string& step_dir) {
  const std::string doomed = step_dir + ".tmp-" + random_save_id();
  rename_path(step_dir, doomed);
  remove_tree(doomed);
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
  for (const std::string& folder : deleted) delete_step(folder);
  return deleted;
}

std::vector<std::string> remove_abandoned(const std::string& checkpoints_dir) {
  std::vector<std::string> removed;
  if (!path_exists(checkpoints_dir)) return removed;
  for (const std::string& name : list_folder(checkpoints_dir)) {
    if (!is_temporary_name(name)) continue;
    removed.push_back(checkpoints_dir + "/" + name);
    remove_tree(removed.back());
  }
  return removed;
}

}  // namespace switchyard
