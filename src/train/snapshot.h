#pragma once

#include <string>
#include <vector>

#include "base/named_files.h"
#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/save_checkpoint.h"
#include "checkpoint/tensor_source.h"
#include "train/session.h"

namespace switchyard {

/// Which tensors a snapshot holds for each parameter.
enum class SliceOf { kState, kGradients };

/// This rank's slices of every parameter: the intervals that it owns, so that
/// over the world each element is there once. kState: weights, `.master` when the
/// weights are bfloat16, `.exp_avg`, `.exp_avg_sq`, and from rank 0 the router's
/// state. kGradients: the reduced gradients under the parameters' names. The
/// slices point into the session's memory.
std::vector<OwnedSlice> owned_slices(Session& session, SliceOf what);

/// What a checkpoint of the session as it stands says besides its tensors: progress,
/// layout, the resolved config, and `files` (name, contents). Local.
CheckpointInfo snapshot_info(Session& session, const std::string& data_fingerprint,
                             const NamedFiles& files);

/// Writes checkpoints_dir/step-%08d with all that a run needs to go on: kState's slices
/// and snapshot_info. Collective over the world.
void save_snapshot(Session& session, const std::string& checkpoints_dir,
                   const std::string& data_fingerprint, const NamedFiles& files);

/// What to take from a checkpoint: everything to go on with the run, or only the
/// weights (and router state) to start another.
enum class Restore { kRun, kWeights };

/// Loads a checkpoint of any layout, ZeRO stage or precision. Each rank reads the
/// weights that it computes with and the intervals of optimizer state that it holds,
/// into the place where they stay; where the dtype is another one, through a buffer of
/// 4 MiB. Returns the bytes of tensors that it read: with Digests::kTrust those and no
/// more, otherwise all of every slice that it met. Throws DataError when a tensor is
/// missing or of another shape. Local: the ranks read the same files.
uint64_t load_snapshot(Session& session, const std::string& step_dir, Restore restore,
                       Digests digests = Digests::kCheck);

/// The tensors alone, from wherever they come: parameters, router state and, with
/// Restore::kRun, AdamW's moments. As load_snapshot, but nothing is counted.
void load_tensors(Session& session, TensorSource& source, Restore restore);

/// Throws ConfigError that lists the differences when `theirs`, the config of the
/// checkpoint at `path`, is of another model than `config` describes: another shape, other
/// layers, experts or top_k. What may change is how the model is trained: losses, capacity,
/// the router's options.
void check_same_model(const RunConfig& config, const RunConfig& theirs, const std::string& path);

/// Whether a run may go on from a checkpoint: the model, the seed and the data
/// must be the same. Throws ConfigError that names what differs.
void check_resumable(const RunConfig& config, const std::string& data_fingerprint,
                     const std::string& step_dir);

}  // namespace switchyard
