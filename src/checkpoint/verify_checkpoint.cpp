#include "checkpoint/verify_checkpoint.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/checkpoint_reader.h"

namespace switchyard {
namespace {

uint64_t total_bytes(const Manifest& manifest) {
  uint64_t total = 0;
  for (const ShardRecord& shard : manifest.shards) total += shard.bytes - shard.header_bytes;
  return total;
}

/// One part of a checkpoint's verification, and what it has found.
class Verifier {
 public:
  Verifier(const std::string& step_dir, int part, int parts)
      : step_dir_(step_dir), part_(part), parts_(parts) {}

  void run() {
    note(0, [&] {
      CheckpointReader reader(step_dir_, Digests::kCheck, Opening::kManifest);
      if (part_ == 0) check_files(reader);
      check_shards(reader);
      check_slices(reader);
    });
  }

  const std::vector<std::string>& problems() const { return problems_; }
  uint64_t verified_bytes() const { return verified_bytes_; }

 private:
  /// Runs `check` of so many bytes: adds them up, or keeps what it complains about.
  template <typename Check>
  bool note(uint64_t bytes, Check&& check) {
    try {
      check();
      verified_bytes_ += bytes;
      return true;
    } catch (const DataError& error) {
      problems_.emplace_back(error.what());
      return false;
    }
  }

  void check_files(const CheckpointReader& reader) {
    verified_bytes_ += FileReader(step_dir_ + "/" + kManifestName).size();  // by opening it
    for (const std::string& name : reader.unknown_shards()) {
      problems_.push_back(step_dir_ + "/" + name + ": a shard that the manifest does not know");
    }
    for (const FileRecord& file : reader.manifest().files) {
      note(file.bytes, [&] { reader.read_text(file.name); });
    }
  }

  /// Every part must know which shards it can read; of those that it cannot, one part tells,
  /// and each that would have read slices of them.
  void check_shards(CheckpointReader& reader) {
    const std::vector<ShardRecord>& shards = reader.manifest().shards;
    for (size_t shard = 0; shard < shards.size(); ++shard) {
      const size_t told = problems_.size();
      const bool readable = note(0, [&] { reader.check_shard_size(shard); });
      unreadable_.push_back(readable ? "" : problems_.back());
      const bool mine = static_cast<int>(shard % parts_) == part_;
      if (!mine) problems_.resize(told);
      if (!mine || !readable) continue;
      note(shards[shard].header_bytes, [&] { reader.check_shard_header(shard); });
    }
  }

  /// A part is the slices that begin in its stretch of all tensors' bytes.
  void check_slices(CheckpointReader& reader) {
    const double stretch = static_cast<double>(total_bytes(reader.manifest())) / parts_;
    uint64_t before = 0;
    for (const TensorRecord& tensor : reader.manifest().tensors) {
      for (const Slice& slice : tensor.slices) {
        const int owner =
            std::min(parts_ - 1, static_cast<int>(static_cast<double>(before) / stretch));
        before += slice.bytes;
        if (owner != part_) continue;
        if (const std::string& problem = unreadable_[slice.shard]; !problem.empty()) {
          if (std::ranges::count(problems_, problem) == 0) problems_.push_back(problem);
          continue;
        }
        note(slice.bytes, [&] { reader.check_slice(tensor, slice); });
      }
    }
  }

  std::string step_dir_;
  int part_, parts_;
  std::vector<std::string> problems_;
  std::vector<std::string> unreadable_;  // by shard: why, or ""
  uint64_t verified_bytes_ = 0;
};

}  // namespace

std::vector<std::string> verify_checkpoint(const std::string& step_dir, int part, int parts,
                                           uint64_t* verified_bytes) {
  Verifier verifier(step_dir, part, parts);
  verifier.run();
  if (verified_bytes != nullptr) *verified_bytes = verifier.verified_bytes();
  return verifier.problems();
}

}  // namespace switchyard
