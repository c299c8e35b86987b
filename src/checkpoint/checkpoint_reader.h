#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "checkpoint/manifest.h"

namespace switchyard {

/// Whether the bytes that are read are held against their digests.
enum class Digests { kCheck, kTrust };

/// Whether opening looks at every file of the checkpoint, or at the manifest alone.
enum class Opening { kWhole, kManifest };

/// Reads a checkpoint of any layout into any other. No communication: each rank
/// opens its own and reads what it needs.
///
/// Opening checks the manifest, the files beside the shards and every shard's
/// size; nothing may be a symbolic link. (Opening::kManifest leaves the files to
/// check_shard_size, unknown_shards and read_text, for someone who wants to hear
/// of every fault and not of the first.) A shard's header and a slice's digest
/// are checked when they are first touched, so a read costs at most the slices
/// that it meets; kTrust reads the asked-for bytes alone, for a checkpoint that
/// all ranks have just verified together (verify_checkpoint). Every failure is a
/// DataError that names the file, and the tensor where there is one.
///
/// One thread at a time.
class CheckpointReader {
 public:
  explicit CheckpointReader(const std::string& step_dir, Digests digests = Digests::kCheck,
                            Opening opening = Opening::kWhole);
  CheckpointReader(const CheckpointReader&) = delete;
  CheckpointReader& operator=(const CheckpointReader&) = delete;

  const Manifest& manifest() const { return manifest_; }
  const std::string& path() const { return path_; }

  bool has(const std::string& name) const { return index_.contains(name); }
  /// Throws DataError if there is none of that name.
  const TensorRecord& tensor(const std::string& name) const;

  /// Elements [begin, end) of the flattened tensor to `out`, which has room for
  /// them. Converts nothing: `dtype` is what `out` holds and must be the tensor's.
  void read(const std::string& name, std::string_view dtype, int64_t begin, int64_t end, void* out);

  /// A file of Manifest::files, such as "config.yaml", held against its digest.
  std::string read_text(const std::string& name) const;

  /// Files of the folder that are named like shards, but are none of the manifest's.
  std::vector<std::string> unknown_shards() const;
  /// Throws unless the shard is a regular file of its size.
  void check_shard_size(size_t shard) const;
  /// Throws unless the shard's header is the one that was written.
  void check_shard_header(size_t shard);
  /// Throws, naming the slice, unless `digest` is the one of the slice as it was written.
  void check_slice_digest(const TensorRecord& tensor, const Slice& slice, uint64_t digest) const;
  /// Reads a slice for nothing but its digest.
  void check_slice(const TensorRecord& tensor, const Slice& slice);

  /// Bytes of tensors read so far, those read for digests included.
  uint64_t bytes_read() const { return bytes_read_; }

 private:
  std::string shard_path(const Slice& slice) const;
  void read_slice(const TensorRecord& tensor, const Slice& slice, uint64_t begin, uint64_t end,
                  std::byte* out);
  void stream_slice(const TensorRecord& tensor, const Slice& slice, uint64_t begin, uint64_t end,
                    std::byte* out);
  void check_files() const;

  std::string path_;
  Digests digests_;
  Manifest manifest_;
  std::unordered_map<std::string, size_t> index_;
  std::vector<bool> header_checked_;          // by shard
  std::unordered_set<const Slice*> checked_;  // of manifest_
  uint64_t bytes_read_ = 0;
};

}  // namespace switchyard
