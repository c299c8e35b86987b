#include "checkpoint/retention.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/step_folder.h"
#include "checkpoint/verify_checkpoint.h"

namespace switchyard {
namespace {

constexpr const char* kLatest = "latest";

/// What a step folder is to retention.
struct Finding {
  bool counts = false;  // it opens
  bool may_be_deleted = false;
  std::string reason;  // why not
};

/// A file in the folder that no save has put there; "" when there is none.
std::string foreign_file(const CheckpointReader& reader) {
  std::set<std::string> ours = {kManifestName};
  for (const FileRecord& file : reader.manifest().files) ours.insert(file.name);
  for (const ShardRecord& shard : reader.manifest().shards) ours.insert(shard.name);
  for (const std::string& name : list_folder(reader.path())) {
    if (!ours.contains(name)) return name;
  }
  return "";
}

Finding examine(const std::string& step_dir) {
  if (std::filesystem::is_symlink(step_dir)) return {false, false, "a symbolic link"};
  try {
    const CheckpointReader reader(step_dir);
    const std::string foreign = foreign_file(reader);
    if (foreign.empty()) return {true, true, ""};
    return {true, false, "holds " + foreign + ", which no save has written"};
  } catch (const DataError& error) {
    return {false, false, std::string("damaged, or not ours: ") + error.what()};
  }
}

/// "step-...", or "" when there is no `latest`.
std::string published_name(const std::string& checkpoints_dir) {
  const std::string pointer = checkpoints_dir + "/" + kLatest;
  if (!path_exists(pointer)) return "";
  const std::string text = read_file(pointer, /*max_bytes=*/256);
  return text.substr(0, text.find('\n'));
}

/// Goes through the steps of one folder, newest first.
class Chooser {
 public:
  Chooser(const std::string& checkpoints_dir, int64_t keep, Assurance assurance)
      : published_(checkpoints_dir + "/" + published_name(checkpoints_dir)),
        keep_(keep),
        one_is_whole_(assurance == Assurance::kJustSaved) {}

  void see(const std::string& step_dir) {
    Finding finding = examine(step_dir);
    if (finding.counts && !one_is_whole_) verify(step_dir, finding);
    if (!finding.counts) return keep(step_dir, finding.reason);
    ++counted_;
    if (counted_ <= keep_) return keep(step_dir, "one of the newest " + std::to_string(keep_));
    if (step_dir == published_) return keep(step_dir, "`latest` names it");
    if (!finding.may_be_deleted) return keep(step_dir, finding.reason);
    result_.doomed.push_back(step_dir);
  }

  void keep(const std::string& folder, const std::string& reason) {
    result_.kept.push_back({folder, reason});
  }

  Retention result() && {
    std::reverse(result_.doomed.begin(), result_.doomed.end());
    return std::move(result_);
  }

 private:
  void verify(const std::string& step_dir, Finding& finding) {
    const std::vector<std::string> problems = verify_checkpoint(step_dir);
    one_is_whole_ = problems.empty();
    if (!one_is_whole_) finding = {false, false, problems.front()};
  }

  std::string published_;
  int64_t keep_;
  bool one_is_whole_;
  int64_t counted_ = 0;
  Retention result_;
};

}  // namespace

Retention plan_retention(const std::string& checkpoints_dir, int64_t keep, Assurance assurance) {
  if (!path_exists(checkpoints_dir)) return {};
  Chooser chooser(checkpoints_dir, keep, assurance);
  for (const int64_t step : list_steps(checkpoints_dir)) {
    chooser.see(checkpoints_dir + "/" + step_folder_name(step));
  }
  for (const std::string& name : list_folder(checkpoints_dir)) {
    if (name == kLatest || parse_step_folder_name(name)) continue;
    chooser.keep(checkpoints_dir + "/" + name, "not a checkpoint's name");
  }
  return std::move(chooser).result();
}

void delete_checkpoints(const std::vector<std::string>& step_dirs) {
  std::vector<std::string> doomed;
  for (const std::string& step_dir : step_dirs) {
    doomed.push_back(step_dir + ".tmp-" + random_save_id());
    rename_path(step_dir, doomed.back());
  }
  for (const std::string& folder : doomed) sync_folder(folder_of(folder));
  for (const std::string& folder : doomed) remove_tree(folder);
}

std::vector<std::string> retain(const std::string& checkpoints_dir, int64_t keep) {
  if (keep <= 0) return {};
  const std::vector<std::string> doomed =
      plan_retention(checkpoints_dir, keep, Assurance::kJustSaved).doomed;
  delete_checkpoints(doomed);
  return doomed;
}

std::vector<std::string> remove_abandoned(const std::string& checkpoints_dir) {
  std::vector<std::string> removed;
  if (!path_exists(checkpoints_dir)) return removed;
  for (const std::string& name : list_folder(checkpoints_dir)) {
    const std::string folder = checkpoints_dir + "/" + name;
    if (name.starts_with(std::string(kLatest) + ".tmp-")) removed.push_back(folder);
    if (!is_temporary_name(name) || std::filesystem::is_symlink(folder) || !is_folder(folder)) {
      continue;
    }
    removed.push_back(folder);
  }
  // One may hold what a save has replaced and not yet made durable.
  if (!removed.empty()) sync_folder(checkpoints_dir);
  for (const std::string& folder : removed) remove_tree(folder);
  return removed;
}

}  // namespace switchyard
