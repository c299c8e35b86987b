#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

/// Keeps the newest `keep` checkpoints that open (CheckpointReader) and the one
/// that `latest` names, and deletes the older ones; keep = 0 keeps all. Only
/// folders whose manifest is one of ours are ever deleted; damaged, foreign and
/// linked ones stay, and do not count. A folder is renamed to a temporary name,
/// and that name is on the disk, before it is deleted, so neither a kill nor a power
/// cut leaves half of a checkpoint. Call it after publishing, on one rank. Returns
/// the folders deleted, oldest first. Local.
std::vector<std::string> retain(const std::string& checkpoints_dir, int64_t keep);

/// Deletes what killed saves and deletions have left. Nobody else may be saving
/// into this folder meanwhile. Returns the folders deleted. Local.
std::vector<std::string> remove_abandoned(const std::string& checkpoints_dir);

}  // namespace switchyard
