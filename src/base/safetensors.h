#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/checksum.h"
#include "base/file.h"

namespace switchyard {

// The safetensors container:
//
//   8 bytes        N, little endian
//   N bytes        {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...,
//                   "__metadata__": {"format": "pt"}}, padded with spaces
//   to the end     the tensors, back to back; data_offsets count from here
//
// The reader takes nothing that safetensors 0.8.0 refuses (holes, overlaps,
// trailing bytes, sizes that are not shape times dtype, duplicate keys, ...),
// and refuses what that lets pass: one name under two dtypes, anything before
// the "{", unknown fields, names that are empty, hold control bytes or climb
// like "../x", more than 8 dimensions. Nothing is allocated from a number in the
// file before that number is bounded by the file's size.

/// Bits of one element of "F64", "F32", "BF16", "I64", "U8", "BOOL", ... (every
/// dtype of safetensors 0.8.0); nothing for an unknown name.
std::optional<int> dtype_bits(std::string_view dtype);

/// Elements of a shape; nothing if a dimension is negative or the product does
/// not fit int64_t.
std::optional<int64_t> element_count(const std::vector<int64_t>& shape);

/// Bytes of a tensor; nothing if the dtype is unknown, the size does not fit
/// int64_t or is no whole number of bytes.
std::optional<uint64_t> tensor_bytes(std::string_view dtype, const std::vector<int64_t>& shape);

/// Whether a tensor may be called so: 1 to 512 bytes, no control bytes, not
/// absolute, no ".." between slashes, not "__metadata__".
bool is_tensor_name(std::string_view name);

/// What a tensor is, before it has a place in a file.
struct TensorDeclaration {
  std::string name;
  std::string dtype;  // "F32"
  std::vector<int64_t> shape;
};

/// A tensor's place: `offset` counts from the beginning of the file.
struct TensorEntry {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

/// A file, mapped and checked. Throws DataError that names the file and the
/// tensor. Whether the numbers inside are right is not known: the format has no
/// digests.
class SafetensorsReader {
 public:
  explicit SafetensorsReader(const std::string& path, Symlinks symlinks = Symlinks::kFollow);

  /// In the order of their bytes.
  const std::vector<TensorEntry>& tensors() const { return tensors_; }
  /// Null if there is none of that name.
  const TensorEntry* find(const std::string& name) const;
  /// Throws DataError if there is none of that name.
  const TensorEntry& at(const std::string& name) const;
  /// entry.bytes bytes, valid as long as this reader; aligned to nothing.
  const std::byte* data(const TensorEntry& entry) const { return file_.data() + entry.offset; }

  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& path() const { return file_.path(); }

 private:
  MappedFile file_;
  std::vector<TensorEntry> tensors_;  // sorted by offset
  std::unordered_map<std::string, size_t> index_;
  std::map<std::string, std::string> metadata_;
};

/// Writes a file in one pass, without ever holding more than a piece of it:
///
///   SafetensorsWriter writer(path, {{"a", "F32", {2, 3}}, {"b", "BF16", {4}}});
///   writer.append(a, 24);  // the tensors' bytes, in the declared order, in
///   writer.append(b, 8);   // pieces of any size
///   writer.finish();
///
/// Declare larger dtypes first (`sort_declarations`) and every tensor is aligned
/// to its element, as in the official writer's files. A broken contract (a name
/// twice, too many bytes) is a std::logic_error, a failing disk a DataError.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::string& path, const std::vector<TensorDeclaration>& declarations,
                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}},
                    OpenMode mode = OpenMode::kTruncate);

  /// Where each declared tensor is, in the declared order.
  const std::vector<TensorEntry>& tensors() const { return tensors_; }
  /// Bytes before the first tensor, and their digest.
  uint64_t header_bytes() const { return header_bytes_; }
  uint64_t header_xxh3() const { return header_xxh3_; }
  uint64_t file_bytes() const { return file_bytes_; }

  void append(const void* data, size_t bytes);
  /// fsync and close, once every declared byte is there. The name of the file is
  /// durable only after sync_folder.
  void finish();

 private:
  std::vector<TensorEntry> tensors_;
  FileWriter file_;
  uint64_t header_bytes_ = 0;
  uint64_t header_xxh3_ = 0;
  uint64_t file_bytes_ = 0;
};

/// The official writer's order: larger dtypes first, then by name.
void sort_declarations(std::vector<TensorDeclaration>& declarations);

}  // namespace switchyard
