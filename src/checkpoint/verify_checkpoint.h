#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

/// Reads a checkpoint and holds every byte against its digest, piece by piece.
/// Returns what is wrong, one sentence for each fault, naming file and tensor;
/// nothing when all is well. A shard that is missing or of another size is one
/// fault, and its slices are not read; a manifest that cannot be read hides the
/// rest. `verified_bytes`, unless null, receives how many bytes were found right:
/// of a whole checkpoint, the size of all its files.
///
/// With `parts` ranks, each may verify its `part`: about 1/parts of the bytes.
/// A checkpoint is whole when every part found nothing; several may tell of the same
/// shard that none of them can read. Local.
std::vector<std::string> verify_checkpoint(const std::string& step_dir, int part = 0, int parts = 1,
                                           uint64_t* verified_bytes = nullptr);

}  // namespace switchyard
