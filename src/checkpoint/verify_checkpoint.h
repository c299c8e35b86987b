#pragma once

#include <string>
#include <vector>

namespace switchyard {

/// Reads a checkpoint and holds every byte against its digest. Returns what is
/// wrong, one sentence for each, naming file and tensor; nothing when all is well.
///
/// With `parts` ranks, each may verify its `part`: about 1/parts of the bytes.
/// A checkpoint is whole when every part found nothing. Local.
std::vector<std::string> verify_checkpoint(const std::string& step_dir, int part = 0,
                                           int parts = 1);

}  // namespace switchyard
