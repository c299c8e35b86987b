#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"

namespace switchyard {

/// Takes bytes that follow those of the call before, and are the caller's again afterwards.
using TakeBytes = std::function<void(const void* data, uint64_t bytes)>;

/// One flat interval of a named tensor that this rank owns. A tensor that a rank
/// owns nothing of may be left out or come as an empty interval.
struct OwnedSlice {
  std::string name;
  std::vector<int64_t> shape;  // of the whole tensor
  std::string dtype;           // "F32"
  std::string kind;            // "dense", "expert", "state"
  int64_t begin = 0;           // elements [begin, end) of the flattened tensor
  int64_t end = 0;
  const void* data = nullptr;  // (end - begin) elements, in host memory

  /// Where `data` is null: writes those elements to `out`, when their turn comes, so that a
  /// model larger than memory can be saved.
  std::function<void(void* out)> make = nullptr;

  /// Where both are null, for what is in a device's memory: gives those elements' bytes to `take`,
  /// piece by piece (device_pieces.h).
  std::function<void(const TakeBytes& take)> pieces = nullptr;
};

/// Throws DataError when dtype and shape have no size.
uint64_t slice_bytes(const OwnedSlice& slice);

/// Whether a number that is infinite or not a number may be written. A run's state with
/// one is not worth keeping; what only shows a failure may have some.
enum class NonFinite { kRefuse, kKeep };

/// What one rank wrote. Every slice's `shard` is 0: its own.
struct ShardTable {
  ShardRecord shard;
  std::vector<TensorRecord> tensors;
};

/// Writes <folder>/rank-%05d.safetensors and waits until it is on the disk. In
/// it, a whole tensor has its own name and shape, so a checkpoint of one rank
/// opens in any tool; an interval is flat and named "<name>@<begin>-<end>". The
/// digests are taken from memory, before the disk has touched a byte. Local.
/// Throws DataError, and with kRefuse NonFiniteError that names tensor and element.
ShardTable write_shard(const std::string& folder, int rank, const std::string& save_id,
                       int64_t step, const std::vector<OwnedSlice>& slices,
                       NonFinite non_finite = NonFinite::kRefuse);

/// Reads what was written back from the disk, not from the page cache where the system
/// lets go of it, and holds it against the table. Local. Throws DataError.
void check_shard(const std::string& folder, const ShardTable& table);

/// A table as text, to be sent to rank 0, and back.
std::string table_text(const ShardTable& table);
ShardTable parse_table(const std::string& text, const std::string& origin);

/// One manifest's tensors and shards out of the tables of all ranks, in rank
/// order. Throws DataError when two ranks disagree about a tensor.
void merge_tables(std::vector<ShardTable> tables, Manifest& manifest);

}  // namespace switchyard
