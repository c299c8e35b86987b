#include "checkpoint/save_checkpoint.h"

#include <functional>

#include "base/checksum.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/file.h"
#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/step_folder.h"

namespace switchyard {
namespace {

using Kind = SaveOutcome::Kind;

/// Runs one rank's part of a phase; every exception becomes an outcome, so that no
/// rank leaves the others waiting in a collective.
SaveOutcome attempt(const std::function<std::string()>& part) {
  try {
    return {Kind::kDone, part()};
  } catch (const NonFiniteError& error) {
    return {Kind::kNonFinite, error.what()};
  } catch (const std::exception& error) {
    return {Kind::kFailed, error.what()};
  }
}

std::string packed(const SaveOutcome& outcome) {
  return static_cast<char>(outcome.kind) + outcome.text;
}

SaveOutcome unpacked(const std::string& text) {
  if (text.empty()) return {Kind::kFailed, "a rank said nothing"};
  return {static_cast<Kind>(text[0]), text.substr(1)};
}

/// "<save id> <step>": what rank 0 tells of a save that begins.
std::string begun(Communicator& world, int64_t step) {
  const std::string mine = world.rank() == 0 ? random_save_id() + " " + std::to_string(step) : "";
  return broadcast_text(world, mine, /*root=*/0, "the checkpoint's id");
}

FileRecord write_new_file(const std::string& folder, const std::string& name,
                          const std::string& contents) {
  if (!is_plain_name(name)) throw DataError("\"" + name + "\" is no plain file name");
  FileWriter file(folder + "/" + name, OpenMode::kCreateNew);
  file.append(contents);
  file.fsync();
  file.close();
  return {name, contents.size(), xxh3(contents.data(), contents.size())};
}

}  // namespace

std::string SaveOutcome::complaint() const {
  return kind == Kind::kInDoubt ? text : "the checkpoint was not saved: " + text;
}

void SaveOutcome::throw_unless_done(const std::string& way_out) const {
  if (kind == Kind::kNonFinite) throw NonFiniteError(complaint());
  if (!done()) throw DataError(complaint() + way_out);
}

CheckpointSave::CheckpointSave(Communicator& world, const std::string& checkpoints_dir,
                               CheckpointInfo info, bool read_back)
    : info_(std::move(info)), rank_(world.rank()), read_back_(read_back), parent_(checkpoints_dir) {
  const std::string start = begun(world, info_.step);
  const size_t space = start.find(' ');
  save_id_ = start.substr(0, space);
  final_ = parent_ + "/" + step_folder_name(info_.step);
  temporary_ =
      parent_ + "/" + step_folder_name(std::stoll(start.substr(space))) + ".tmp-" + save_id_;
}

SaveOutcome CheckpointSave::write_shard(const std::vector<OwnedSlice>& slices) const {
  uint64_t bytes = 0;
  const auto write = [&] {
    for (const OwnedSlice& slice : slices) bytes += slice_bytes(slice);
    if (temporary_ != final_ + ".tmp-" + save_id_) {
      throw DataError("rank 0 saves " + temporary_ + ", not this step");
    }
    make_folders(temporary_);
    const ShardTable table =
        switchyard::write_shard(temporary_, rank_, save_id_, info_.step, slices, info_.non_finite);
    failpoint("save.shard");
    if (read_back_) check_shard(temporary_, table);
    return table_text(table);
  };
  SaveOutcome outcome = attempt(write);
  if (outcome.kind == Kind::kFailed && bytes > 0) {
    outcome.text += "; this rank's part takes " + std::to_string(bytes) + " bytes";
  }
  return outcome;
}

std::vector<SaveOutcome> CheckpointSave::gather(Communicator& world,
                                                const SaveOutcome& mine) const {
  std::vector<SaveOutcome> outcomes;
  for (const std::string& text : all_gather_text(world, packed(mine), "slice tables")) {
    outcomes.push_back(unpacked(text));
  }
  return outcomes;
}

SaveOutcome CheckpointSave::commit(const std::vector<SaveOutcome>& shards) const {
  for (size_t rank = 0; rank < shards.size(); ++rank) {
    if (shards[rank].done()) continue;
    attempt([&] { return remove_tree(temporary_), ""; });  // the failure before is the one to tell
    return {shards[rank].kind, "rank " + std::to_string(rank) + ": " + shards[rank].text};
  }
  std::string in_doubt;  // about what is in place
  const SaveOutcome outcome = attempt([&] {
    write_new_file(temporary_, kManifestName, merged_manifest(shards));
    sync_folder(temporary_);
    sync_folder(folder_of(parent_));
    const CheckpointReader read_back(temporary_);
    failpoint("save.commit");
    swap_in_folder(temporary_, final_);
    in_doubt = " is in place, but may not outlive a loss of power: ";
    sync_folder(parent_);
    failpoint("save.published");
    in_doubt = " is saved, but `latest` may not name it: ";
    write_file_atomically(parent_ + "/latest", step_folder_name(info_.step) + "\n");
    return final_;
  });
  if (outcome.done()) return outcome;
  if (!in_doubt.empty()) return {Kind::kInDoubt, final_ + in_doubt + outcome.text};
  attempt([&] { return remove_tree(temporary_), ""; });
  return outcome;
}

/// The two have changed places.
void CheckpointSave::remove_replaced() const { remove_tree(temporary_); }

/// Writes the other files on the way.
std::string CheckpointSave::merged_manifest(const std::vector<SaveOutcome>& shards) const {
  std::vector<ShardTable> tables;
  for (size_t rank = 0; rank < shards.size(); ++rank) {
    tables.push_back(parse_table(shards[rank].text, "rank " + std::to_string(rank)));
  }
  Manifest manifest;
  manifest.save_id = save_id_;
  manifest.step = info_.step;
  manifest.cursor = info_.cursor;
  manifest.config_xxh3 = xxh3(info_.config_yaml.data(), info_.config_yaml.size());
  manifest.world = info_.world;
  manifest.expert_parallel = info_.expert_parallel;
  manifest.zero_stage = info_.zero_stage;
  manifest.state = info_.state;
  merge_tables(std::move(tables), manifest);
  manifest.files.push_back(write_new_file(temporary_, kConfigName, info_.config_yaml));
  for (const auto& [name, contents] : info_.files) {
    manifest.files.push_back(write_new_file(temporary_, name, contents));
  }
  check_manifest(manifest, temporary_);
  return manifest_text(manifest);
}

SaveOutcome broadcast_outcome(Communicator& world, const SaveOutcome& outcome, int root) {
  return unpacked(broadcast_text(world, packed(outcome), root, "the checkpoint's commit"));
}

void save_checkpoint(Communicator& world, const std::string& checkpoints_dir,
                     const CheckpointInfo& info, const std::vector<OwnedSlice>& slices) {
  const CheckpointSave save(world, checkpoints_dir, info, /*read_back=*/true);
  const std::vector<SaveOutcome> shards = save.gather(world, save.write_shard(slices));
  const SaveOutcome mine = world.rank() == 0 ? save.commit(shards) : SaveOutcome{};
  if (world.rank() == 0 && mine.done()) attempt([&] { return save.remove_replaced(), ""; });
  broadcast_outcome(world, mine, /*root=*/0).throw_unless_done();
}

}  // namespace switchyard
