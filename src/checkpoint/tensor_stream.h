#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/checksum.h"
#include "base/file.h"
#include "checkpoint/checkpoint_reader.h"

namespace switchyard {

/// The bytes of one tensor in their order, however many slices hold them: each is
/// read once and held against its slice's digest, which is known to be right only
/// when the slice has come to its end. Holds no more than the caller's piece.
/// Reader and record outlive this. Local.
class TensorStream {
 public:
  TensorStream(CheckpointReader& reader, const TensorRecord& tensor);

  /// Fills `out` as far as the tensor goes and returns the bytes filled; 0 at its
  /// end. Throws DataError that names tensor and file when a slice is damaged.
  size_t read(std::span<std::byte> out);

 private:
  void open_slice();
  void close_slice();

  CheckpointReader& reader_;
  const TensorRecord& tensor_;
  size_t slice_ = 0;       // index of the one being read
  uint64_t in_slice_ = 0;  // bytes of it that have been read
  std::optional<FileReader> file_;
  std::optional<Xxh3Stream> digest_;
};

}  // namespace switchyard
