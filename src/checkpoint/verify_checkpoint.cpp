#include "checkpoint/verify_checkpoint.h"

#include <algorithm>
#include <cstdint>

#include "base/error.h"
#include "checkpoint/checkpoint_reader.h"

namespace switchyard {
namespace {

uint64_t total_bytes(const Manifest& manifest) {
  uint64_t total = 0;
  for (const ShardRecord& shard : manifest.shards) total += shard.bytes - shard.header_bytes;
  return total;
}

/// Runs `check`, and keeps what it complains about.
template <typename Check>
void note(std::vector<std::string>& problems, Check&& check) {
  try {
    check();
  } catch (const DataError& error) {
    problems.emplace_back(error.what());
  }
}

void verify_headers(CheckpointReader& reader, int part, int parts,
                    std::vector<std::string>& problems) {
  for (size_t shard = part; shard < reader.manifest().shards.size(); shard += parts) {
    note(problems, [&] { reader.check_shard_header(shard); });
  }
}

/// A part is the slices that begin in its stretch of all tensors' bytes.
void verify_slices(CheckpointReader& reader, int part, int parts,
                   std::vector<std::string>& problems) {
  const double stretch = static_cast<double>(total_bytes(reader.manifest())) / parts;
  uint64_t before = 0;
  for (const TensorRecord& tensor : reader.manifest().tensors) {
    for (const Slice& slice : tensor.slices) {
      const int owner =
          std::min(parts - 1, static_cast<int>(static_cast<double>(before) / stretch));
      if (owner == part) note(problems, [&] { reader.check_slice(tensor, slice); });
      before += slice.bytes;
    }
  }
}

}  // namespace

std::vector<std::string> verify_checkpoint(const std::string& step_dir, int part, int parts) {
  std::vector<std::string> problems;
  note(problems, [&] {
    CheckpointReader reader(step_dir);
    verify_headers(reader, part, parts, problems);
    verify_slices(reader, part, parts, problems);
  });
  return problems;
}

}  // namespace switchyard
