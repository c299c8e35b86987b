#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/save_checkpoint.h"

namespace switchyard {

/// What became of a save.
struct SaveReport {
  int64_t step = 0;
  std::string folder;     // once it is published
  SaveOutcome outcome;    // the same on all ranks
  std::string complaint;  // retention that failed; on rank 0
  double seconds = 0;     // from its start until all ranks knew
};

/// The saves of one run, made at once or while training goes on: `start` copies the
/// slices to memory of its own, and a thread writes them. At most one save is under
/// way; its guarantees are those of save_checkpoint. The ranks speak to each other only
/// on the caller's thread, in the collective methods: every rank of the world must call
/// them at the same steps.
class CheckpointSaver {
 public:
  struct Options {
    std::string checkpoints_dir;
    int64_t keep = 0;       // checkpoints left after publishing one; 0: all
    bool read_back = true;  // see CheckpointSave
  };

  /// `world` must outlive the saver.
  CheckpointSaver(Communicator& world, Options options) : world_(world), options_(options) {}
  /// Waits for this rank's file operations; what was not published stays unpublished.
  ~CheckpointSaver() = default;

  bool under_way() const { return save_ != nullptr; }

  /// Saves and waits, without a copy. None may be under way. Collective.
  SaveReport save(CheckpointInfo info, const std::vector<OwnedSlice>& slices);

  /// Copies the slices, those of a device piece by piece, and returns. None may be under way.
  /// Collective.
  void start(CheckpointInfo info, const std::vector<OwnedSlice>& slices);

  /// Moves the save on; the report once all ranks know how it ended. Collective while a
  /// save is under way, which all ranks know; else it does nothing.
  std::optional<SaveReport> poll();

  /// Waits for the save that is under way, if there is one. Collective.
  std::optional<SaveReport> finish();

  /// Bytes of this rank's copy, which is kept for the next save.
  int64_t staging_bytes() const { return static_cast<int64_t>(staging_bytes_); }

 private:
  using Clock = std::chrono::steady_clock;

  void begin(CheckpointInfo info);
  void write(std::vector<OwnedSlice> slices);
  std::vector<OwnedSlice> copied(const std::vector<OwnedSlice>& slices);
  bool all_ranks_are_through() const;
  SaveOutcome commit_and_retain(const std::vector<SaveOutcome>& shards);
  std::optional<SaveReport> next_phase();

  Communicator& world_;
  Options options_;
  std::unique_ptr<std::byte[]> staging_;
  uint64_t staging_bytes_ = 0;
  std::unique_ptr<CheckpointSave> save_;
  SaveReport report_;
  Clock::time_point start_;
  bool committing_ = false;
  std::future<SaveOutcome> part_;  // this rank's of the phase; last, so that it ends first
};

}  // namespace switchyard
