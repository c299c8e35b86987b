#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

/// Whether somebody knows already that there is a whole checkpoint among those
/// that stay.
enum class Assurance {
  kJustSaved,  // this process has published the one that `latest` names
  kVerify,     // nobody: read the newest from end to end, and the next if it is damaged
};

/// What stays, and why.
struct KeptFolder {
  std::string folder;
  std::string reason;
};

struct Retention {
  std::vector<std::string> doomed;  // step folders to delete, oldest first
  std::vector<KeptFolder> kept;     // every other entry of the folder but `latest`, newest first
};

/// Chooses the newest `keep` >= 1 checkpoints that open (CheckpointReader) and the
/// one that `latest` names to stay, and dooms the older ones. Only folders whose
/// manifest is one of ours, and that hold nothing beside what it lists, are ever
/// doomed; damaged, foreign and linked ones stay, and do not count.
///
/// So that what stays can be resumed from: kJustSaved relies on the one that
/// `latest` names, which always stays; rot in the others is not seen. kVerify reads
/// the newest in full: a damaged one stays without counting, and then the next is
/// read. When none is whole, none is doomed. Local. Throws DataError.
Retention plan_retention(const std::string& checkpoints_dir, int64_t keep, Assurance assurance);

/// Deletes step folders. They are renamed to temporary names, and those names are on the
/// disk, before anything in them goes: neither a kill nor a power cut leaves half of a
/// checkpoint under a step's name. Local.
void delete_checkpoints(const std::vector<std::string>& step_dirs);

/// Both, with kJustSaved: call it after publishing, on one rank. keep = 0 keeps all.
/// Returns the folders deleted, oldest first. Local.
std::vector<std::string> retain(const std::string& checkpoints_dir, int64_t keep);

/// Deletes what killed saves and deletions have left, half of a new `latest` too; links
/// stay. Nobody else may be
/// saving into this folder meanwhile. Returns the folders deleted. Local.
std::vector<std::string> remove_abandoned(const std::string& checkpoints_dir);

}  // namespace switchyard
