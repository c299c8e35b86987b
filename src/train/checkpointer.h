#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/named_files.h"
#include "checkpoint/checkpoint_saver.h"
#include "train/session.h"

namespace switchyard {

/// The checkpoints of a run that trains: when a save is due it is made at once or in the
/// background (checkpoint.async), older ones are removed once it is published, and what
/// became of it is said. Every method but the constructor is collective over the world.
///
/// A save that fails ends the run with DataError, or with checkpoint.on_failure:
/// continue is said and tried again at the next interval. Numbers that are not finite
/// are never saved: NonFiniteError.
class Checkpointer {
 public:
  /// `files`: what a checkpoint holds besides tensors and config (name, contents).
  /// `session` must outlive it.
  Checkpointer(Session& session, const std::string& checkpoints_dir, std::string data_fingerprint,
               NamedFiles files);

  /// The session as it stands. In the background where the config wants it, after the
  /// save before has ended.
  void save();

  /// The session as it stands, published when it returns. Nothing when that is done.
  void save_and_wait();

  /// At every step: looks whether the save in the background has ended.
  void poll();

  /// Waits for the save in the background.
  void finish();

  /// What the checkpoints that the run comes from hold beside tensors and config goes on
  /// into its own, but for names that it has files for already. Local.
  void carry(const NamedFiles& files);

  /// Milliseconds that training has waited since the last call.
  double take_stall_ms() { return std::exchange(stall_ms_, 0.0); }

  /// The newest folder that this run has published or gone on from, "" if none.
  const std::string& newest() const { return newest_; }
  void set_newest(const std::string& folder, int64_t step);

 private:
  void conclude(const std::optional<SaveReport>& report);

  Session& session_;
  CheckpointSaver saver_;
  std::string data_fingerprint_;
  NamedFiles files_;
  std::string newest_;
  int64_t newest_step_ = -1;
  double stall_ms_ = 0;
  double save_stall_ms_ = 0;  // of the save under way
};

}  // namespace switchyard
