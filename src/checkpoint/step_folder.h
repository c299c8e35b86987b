#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "distributed/communicator.h"

namespace switchyard {

// runs/NAME/checkpoints holds
//
//   step-00001200/                a checkpoint (manifest.h)
//   step-00001300.tmp-<save id>/  one being written, or left by a killed save
//   latest                        "step-00001200\n"
//
// A checkpoint is told by its content, never by `latest` alone: that file only
// says which one was published last.

/// "step-00001200".
std::string step_folder_name(int64_t step);

/// The inverse; nothing for any other name.
std::optional<int64_t> parse_step_folder_name(std::string_view name);

/// Whether save_checkpoint or retain made a temporary folder of that name.
bool is_temporary_name(std::string_view name);

/// 32 hexadecimal digits that no other save has.
std::string random_save_id();

/// The steps that have a folder, newest first; none when there is no folder.
std::vector<int64_t> list_steps(const std::string& checkpoints_dir);

/// The folder of the newest checkpoint whose every byte is as it was written, ""
/// when there is none at all. `complaints`, unless null, receives what is wrong
/// with the newer ones. Throws DataError when there are checkpoints and all of
/// them are damaged: nobody should start from scratch over them. Local.
std::string newest_valid(const std::string& checkpoints_dir, std::vector<std::string>* complaints);

/// The same decision, made once for all ranks, which share the reading. Every
/// rank of `world` must call it. A folder that only some ranks can read is
/// damaged: the complaint names the rank.
std::string newest_valid(Communicator& world, const std::string& checkpoints_dir,
                         std::vector<std::string>* complaints);

/// Throws DataError on every rank, with what is wrong, unless every byte of the checkpoint
/// is as it was written. The ranks share the reading. Collective.
void require_whole(Communicator& world, const std::string& step_dir);

/// Whether a damaged checkpoint is passed over for an older one that is whole.
enum class Damaged { kPassOver, kTake };

/// The step folder that an argument names: a step folder itself; or a run's or
/// its checkpoints' folder, of which the one that `latest` names, or, when that
/// cannot be opened, the newest valid one. kTake: the one that `latest` names, or
/// the newest, in whatever state. Throws DataError when it names none. Local.
std::string resolve_checkpoint(const std::string& argument, Damaged damaged = Damaged::kPassOver);

}  // namespace switchyard
