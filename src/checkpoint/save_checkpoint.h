#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/shard.h"
#include "distributed/communicator.h"

namespace switchyard {

/// What a checkpoint holds besides tensors. `step` is asked of every rank, the
/// rest of rank 0 alone.
struct CheckpointInfo {
  int64_t step = 0;
  uint64_t cursor = 0;      // samples consumed
  std::string config_yaml;  // the resolved config's text
  int world = 1;            // the layout at save
  int expert_parallel = 1;
  int zero_stage = 0;
  nlohmann::json state = nlohmann::json::object();
  /// More files for the folder, such as "tokenizer.json": name and contents.
  std::vector<std::pair<std::string, std::string>> files;
};

/// Saves <checkpoints_dir>/step-%08d and points `latest` at it. Every rank of
/// `world` must call it with the slices that it owns; together they must tile
/// every tensor exactly once.
///
///   rank 0       makes step-%08d.tmp-<save id>, tells the id
///   every rank   writes its shard there, fsync, and tells its slice table
///   rank 0       checks the tiling, writes the other files, the manifest last,
///                fsync, reads it back, renames the folder, fsync of the parent,
///                then replaces `latest`
///
/// So a kill at any moment leaves the checkpoints that were there, and a folder
/// that nobody takes for one. A step that already has a folder is replaced.
///
/// When anything fails on any rank, all ranks throw the same DataError, which
/// names the rank, the file and the reason; the temporary folder is gone and
/// `latest` still names the previous checkpoint. CommError if the fabric fails.
void save_checkpoint(Communicator& world, const std::string& checkpoints_dir,
                     const CheckpointInfo& info, const std::vector<OwnedSlice>& slices);

}  // namespace switchyard
