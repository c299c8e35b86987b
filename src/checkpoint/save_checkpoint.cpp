#include "checkpoint/save_checkpoint.h"

#include <functional>

#include "base/checksum.h"
#include "base/error.h"
#include "base/file.h"
#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/step_folder.h"

namespace switchyard {
namespace {

// Ranks tell each other how a phase went: 'o' and the result, or 'x' and why not.
constexpr char kOk = 'o';
constexpr char kFailed = 'x';

/// Runs one rank's part of a phase; every exception becomes text, so that no
/// rank leaves the others waiting in a collective.
std::string attempt(const std::function<std::string()>& part) {
  try {
    return kOk + part();
  } catch (const std::exception& error) {
    return kFailed + std::string(error.what());
  }
}

bool failed(const std::string& outcome) { return outcome.empty() || outcome[0] != kOk; }

std::string result_of(const std::string& outcome) { return outcome.substr(1); }

/// Rank 0's part of a phase: its result on every rank, or its failure thrown on
/// every rank.
std::string on_rank_zero(Communicator& world, const char* purpose,
                         const std::function<std::string()>& part) {
  const std::string mine = world.rank() == 0 ? attempt(part) : "";
  const std::string outcome = broadcast_text(world, mine, /*root=*/0, purpose);
  if (failed(outcome)) throw DataError("the checkpoint was not saved: " + result_of(outcome));
  return result_of(outcome);
}

class Save {
 public:
  Save(const std::string& checkpoints_dir, const CheckpointInfo& info, std::string save_id)
      : checkpoints_dir_(checkpoints_dir),
        info_(info),
        save_id_(std::move(save_id)),
        final_(checkpoints_dir + "/" + step_folder_name(info.step)),
        temporary_(final_ + ".tmp-" + save_id_) {}

  const std::string& temporary() const { return temporary_; }

  void begin() const {
    make_folders(checkpoints_dir_);
    sync_folder(folder_of(checkpoints_dir_));
    make_folder(temporary_);
  }

  std::string write_own_shard(int rank, const std::vector<OwnedSlice>& slices) const {
    return table_text(write_shard(temporary_, rank, save_id_, info_.step, slices));
  }

  /// What rank 0 does once all shards are on the disk, or some rank has failed.
  void commit(const std::vector<std::string>& outcomes) const {
    try {
      write_manifest(merged(outcomes));
      publish();
    } catch (...) {
      discard();
      throw;
    }
  }

 private:
  Manifest merged(const std::vector<std::string>& outcomes) const {
    std::vector<ShardTable> tables;
    for (size_t rank = 0; rank < outcomes.size(); ++rank) {
      const std::string origin = "rank " + std::to_string(rank);
      if (failed(outcomes[rank])) throw DataError(origin + ": " + result_of(outcomes[rank]));
      tables.push_back(parse_table(result_of(outcomes[rank]), origin));
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
    return manifest;
  }

  void write_manifest(Manifest manifest) const {
    manifest.files.push_back(write_new_file(kConfigName, info_.config_yaml));
    for (const auto& [name, contents] : info_.files) {
      if (!is_plain_name(name)) throw DataError("\"" + name + "\" is no plain file name");
      manifest.files.push_back(write_new_file(name, contents));
    }
    check_manifest(manifest, temporary_);
    write_new_file(kManifestName, manifest_text(manifest));
    sync_folder(temporary_);
    const CheckpointReader read_back(temporary_);
  }

  FileRecord write_new_file(const std::string& name, const std::string& contents) const {
    FileWriter file(temporary_ + "/" + name, OpenMode::kCreateNew);
    file.append(contents);
    file.fsync();
    file.close();
    return {name, contents.size(), xxh3(contents.data(), contents.size())};
  }

  void publish() const {
    const bool replaced = swap_in_folder(temporary_, final_);
    sync_folder(checkpoints_dir_);
    write_file_atomically(checkpoints_dir_ + "/latest", step_folder_name(info_.step) + "\n");
    if (replaced) remove_tree(temporary_);
  }

  /// The failure that led here is the one to tell.
  void discard() const {
    try {
      remove_tree(temporary_);
    } catch (const DataError&) {
    }
  }

  std::string checkpoints_dir_;
  const CheckpointInfo& info_;
  std::string save_id_;
  std::string final_;
  std::string temporary_;
};

}  // namespace

void save_checkpoint(Communicator& world, const std::string& checkpoints_dir,
                     const CheckpointInfo& info, const std::vector<OwnedSlice>& slices) {
  const std::string start = on_rank_zero(world, "the checkpoint's folder", [&] {
    const Save begun(checkpoints_dir, info, random_save_id());
    begun.begin();
    return begun.temporary();
  });
  const Save save(checkpoints_dir, info, start.substr(start.size() - 32));
  const std::string mine = attempt([&] {
    if (save.temporary() != start) throw DataError("rank 0 saves " + start + ", not this step");
    return save.write_own_shard(world.rank(), slices);
  });
  const std::vector<std::string> outcomes =
      all_gather_text(world, mine, "slice tables of the checkpoint");
  on_rank_zero(world, "the checkpoint's commit", [&] {
    save.commit(outcomes);
    return std::string();
  });
}

}  // namespace switchyard
