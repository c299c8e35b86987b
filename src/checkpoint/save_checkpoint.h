#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/named_files.h"
#include "checkpoint/shard.h"
#include "distributed/communicator.h"

namespace switchyard {

/// What a checkpoint holds besides tensors. What is not
/// said to be asked of every rank is asked of rank 0 alone.
struct CheckpointInfo {
  int64_t step = 0;         // asked of every rank
  uint64_t cursor = 0;      // samples consumed
  std::string config_yaml;  // the resolved config's text
  int world = 1;            // the layout at save
  int expert_parallel = 1;
  int zero_stage = 0;
  nlohmann::json state = nlohmann::json::object();
  NonFinite non_finite = NonFinite::kRefuse;  // asked of every rank
  /// More files for the folder, such as "tokenizer.json": name and contents.
  NamedFiles files;
};

/// How one rank's part of a save went: the text that the next phase needs, or why not.
/// What crosses threads and ranks in place of an exception.
struct SaveOutcome {
  enum class Kind : char {
    kDone = 'o',
    kFailed = 'x',
    kInDoubt = '?',  // the folder is in place; what had to follow failed
    kNonFinite = 'n',
  } kind = Kind::kDone;
  std::string text;

  bool done() const { return kind == Kind::kDone; }
  /// "the checkpoint was not saved: ...", or what is in doubt.
  std::string complaint() const;
  /// Throws DataError, or NonFiniteError, with the complaint and `way_out`, unless done.
  void throw_unless_done(const std::string& way_out = "") const;
};

/// One save of <checkpoints_dir>/step-%08d, phase by phase. Between the phases
/// training may go on: only the constructor and `gather` communicate, and every rank
/// of the world must call them; the others do nothing but file operations, never
/// throw, and may run on another thread.
///
///   constructor    rank 0 draws the save's id, tells it
///   write_shard    every rank: makes step-%08d.tmp-<id> if it is not there, writes its
///                  slices, fsync, reads them back from the disk
///   gather         every rank tells its slice table
///   commit         rank 0: checks the tiling, writes the other files, the manifest
///                  last, fsync, reads it back, renames the folder, fsync of the
///                  parent, then replaces `latest`
///
/// So a kill or a power cut at any moment leaves the checkpoints that were there, and
/// a folder that nobody takes for one. A step that already has a folder is replaced.
class CheckpointSave {
 public:
  /// `read_back`: whether every byte is read from the disk again before publishing.
  CheckpointSave(Communicator& world, const std::string& checkpoints_dir, CheckpointInfo info,
                 bool read_back);

  int64_t step() const { return info_.step; }
  /// The folder once it is published.
  const std::string& folder() const { return final_; }

  /// The slices must tile every tensor exactly once over the ranks.
  SaveOutcome write_shard(const std::vector<OwnedSlice>& slices) const;

  std::vector<SaveOutcome> gather(Communicator& world, const SaveOutcome& mine) const;

  /// After a failure, of this phase or of any rank's, `latest` still names the
  /// checkpoint before, and the temporary folder is gone. kInDoubt: the new folder is in
  /// place, and `latest` names it or the one before.
  SaveOutcome commit(const std::vector<SaveOutcome>& shards) const;

  /// Rank 0, once commit is done: removes what the folder held before. Throws DataError.
  void remove_replaced() const;

 private:
  std::string merged_manifest(const std::vector<SaveOutcome>& shards) const;

  CheckpointInfo info_;
  int rank_;
  bool read_back_;
  std::string save_id_, parent_, final_, temporary_;
};

/// All phases at once. When anything fails on any rank, all ranks throw the same
/// error, which names the rank, the file and the reason. (What the folder held before
/// stays under the temporary name if it cannot be removed.) Collective.
void save_checkpoint(Communicator& world, const std::string& checkpoints_dir,
                     const CheckpointInfo& info, const std::vector<OwnedSlice>& slices);

/// The outcome of `root` on every rank. Collective.
SaveOutcome broadcast_outcome(Communicator& world, const SaveOutcome& outcome, int root);

}  // namespace switchyard
