#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/tensor_source.h"

namespace switchyard {

/// A tensor on its way from a source into a file.
struct OutgoingTensor {
  std::string name;    // in the file
  std::string origin;  // in the source
  std::string dtype;   // in the file: "F32", "BF16", "F16"
  std::vector<int64_t> shape;
};

/// What was written.
struct TensorFiles {
  uint64_t bytes = 0;  // of tensors
  uint64_t elements = 0;
  std::vector<std::string> names;  // of the files of tensors
};

/// Writes the tensors into `folder` as transformers does: model.safetensors if they fit
/// into `shard_bytes`, else model-00001-of-0000N.safetensors and so on, filled in the given
/// order, with model.safetensors.index.json. A tensor larger than `shard_bytes` has a file
/// of its own. Converts to the dtype asked for, rounding to the nearest; 4 Mi elements are
/// in memory at a time. Every file is on the disk at the end, the folder's names are not.
/// Throws DataError when reading or writing fails.
TensorFiles write_tensor_files(TensorSource& source, const std::vector<OutgoingTensor>& tensors,
                               uint64_t shard_bytes, const std::string& folder);

}  // namespace switchyard
