#include "base/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <tuple>

#include "base/error.h"
#include "base/json.h"

namespace switchyard {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are stored as they lie here");

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxTensors = 1'000'000;
constexpr size_t kMaxDimensions = 8;
constexpr int kMaxDepth = 4;
constexpr const char* kMetadata = "__metadata__";

struct Dtype {
  std::string_view name;
  int bits;
};

constexpr std::array<Dtype, 22> kDtypes = {
    {{"F64", 64},    {"I64", 64},    {"U64", 64},        {"C64", 64},        {"F32", 32},
     {"I32", 32},    {"U32", 32},    {"F16", 16},        {"BF16", 16},       {"I16", 16},
     {"U16", 16},    {"I8", 8},      {"U8", 8},          {"BOOL", 8},        {"F8_E4M3", 8},
     {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F6_E2M3", 6},
     {"F6_E3M2", 6}, {"F4", 4}}};

/// The JSON text of the header, once its length is known to be possible.
std::string_view header_of(const MappedFile& file) {
  const auto refuse = [&](const std::string& why) -> std::string_view {
    throw DataError(file.path() + ": not a safetensors file: " + why);
  };
  if (file.size() < kLengthBytes) {
    return refuse("only " + std::to_string(file.size()) + " bytes long");
  }
  uint64_t length = 0;
  std::memcpy(&length, file.data(), kLengthBytes);
  if (length > kMaxHeaderBytes) {
    return refuse("a header of " + std::to_string(length) + " bytes, more than " +
                  std::to_string(kMaxHeaderBytes));
  }
  if (length > file.size() - kLengthBytes) {
    return refuse("a header of " + std::to_string(length) + " bytes in a file of " +
                  std::to_string(file.size()));
  }
  const std::string_view header = file.text().substr(kLengthBytes, length);
  if (header.empty() || header.front() != '{') return refuse("the header begins with no {");
  const std::string_view json = header.substr(0, header.find_last_not_of(' ') + 1);
  if (json.back() != '}') return refuse("the header ends with no }");
  return json;
}

std::vector<int64_t> shape_of(const nlohmann::json& array, const std::string& where) {
  if (array.size() > kMaxDimensions) {
    throw DataError(where + ": " + std::to_string(array.size()) + " dimensions, more than " +
                    std::to_string(kMaxDimensions));
  }
  std::vector<int64_t> shape;
  for (const nlohmann::json& size : array) {
    shape.push_back(JsonFields::as_count(size, where + ": a dimension"));
  }
  return shape;
}

/// An entry with its offset still relative to the data.
TensorEntry entry_of(const std::string& name, const nlohmann::json& json,
                     const std::string& where) {
  JsonFields fields(json, where);
  TensorEntry entry;
  entry.name = name;
  entry.dtype = fields.text("dtype");
  entry.shape = shape_of(fields.array("shape"), where);
  const nlohmann::json& offsets = fields.array("data_offsets");
  fields.finish();
  if (!dtype_bits(entry.dtype)) throw DataError(where + ": unknown dtype \"" + entry.dtype + "\"");
  if (offsets.size() != 2) throw DataError(where + ": data_offsets are not two numbers");
  const uint64_t begin = JsonFields::as_number(offsets[0], where + ": an offset");
  const uint64_t end = JsonFields::as_number(offsets[1], where + ": an offset");
  if (begin > end) throw DataError(where + ": data_offsets run backwards");
  const std::optional<uint64_t> bytes = tensor_bytes(entry.dtype, entry.shape);
  if (!bytes) throw DataError(where + ": its shape has no size in bytes");
  if (*bytes != end - begin) {
    throw DataError(where + ": " + std::to_string(end - begin) +
                    " bytes for a shape and dtype of " + std::to_string(*bytes));
  }
  entry.offset = begin;
  entry.bytes = *bytes;
  return entry;
}

std::map<std::string, std::string> metadata_of(const nlohmann::json& json,
                                               const std::string& where) {
  JsonFields fields(json, where);
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : json.items()) metadata[key] = fields.text(key);
  return metadata;
}

/// Sorted, the tensors must touch: from the first byte of the data to the last.
void check_contiguous(const std::vector<TensorEntry>& sorted, uint64_t data_bytes,
                      const std::string& path) {
  uint64_t expected = 0;
  for (const TensorEntry& entry : sorted) {
    const std::string where = path + ": tensor \"" + entry.name + "\"";
    if (entry.offset > expected) {
      throw DataError(where + ": a hole of " + std::to_string(entry.offset - expected) +
                      " bytes before it");
    }
    if (entry.offset < expected) throw DataError(where + ": overlaps the one before it");
    expected = entry.offset + entry.bytes;
    if (expected > data_bytes) {
      throw DataError(where + ": ends at byte " + std::to_string(expected) + " of " +
                      std::to_string(data_bytes) + ": the file is truncated");
    }
  }
  if (expected < data_bytes) {
    throw DataError(path + ": " + std::to_string(data_bytes - expected) +
                    " trailing bytes after the last tensor");
  }
}

/// Lays the tensors back to back, from byte 0 on.
std::vector<TensorEntry> lay_out(const std::vector<TensorDeclaration>& declarations) {
  std::vector<TensorEntry> entries;
  std::set<std::string_view> seen;
  uint64_t offset = 0;
  for (const TensorDeclaration& tensor : declarations) {
    const auto refuse = [&](const std::string& why) {
      throw std::logic_error("cannot write tensor \"" + tensor.name + "\": " + why);
    };
    if (!is_tensor_name(tensor.name)) refuse("not a tensor's name");
    if (!seen.insert(tensor.name).second) refuse("declared twice");
    const std::optional<uint64_t> bytes = tensor_bytes(tensor.dtype, tensor.shape);
    if (!bytes) refuse("dtype \"" + tensor.dtype + "\" and its shape have no size in bytes");
    if (tensor.shape.size() > kMaxDimensions) refuse("too many dimensions");
    entries.push_back({tensor.name, tensor.dtype, tensor.shape, offset, *bytes});
    if (__builtin_add_overflow(offset, *bytes, &offset)) refuse("the file would be too large");
  }
  return entries;
}

/// The file's first bytes: the length, the JSON, spaces up to a multiple of 8.
std::string header_text(const std::vector<TensorEntry>& entries,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (!metadata.empty()) json[kMetadata] = metadata;
  std::string text = json.dump();
  text.pop_back();
  for (const TensorEntry& entry : entries) {
    if (text.size() > 1) text += ',';
    nlohmann::ordered_json fields;
    fields["dtype"] = entry.dtype;
    fields["shape"] = entry.shape;
    fields["data_offsets"] = {entry.offset, entry.offset + entry.bytes};
    text += nlohmann::json(entry.name).dump() + ':' + fields.dump();
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > kMaxHeaderBytes) {
    throw std::logic_error("a safetensors header of " + std::to_string(text.size()) +
                           " bytes: write fewer tensors to a file");
  }
  const uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), kLengthBytes) + text;
}

}  // namespace

std::optional<int> dtype_bits(std::string_view dtype) {
  for (const Dtype& known : kDtypes) {
    if (known.name == dtype) return known.bits;
  }
  return std::nullopt;
}

std::optional<int64_t> element_count(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(count, size, &count)) return std::nullopt;
  }
  return count;
}

std::optional<uint64_t> tensor_bytes(std::string_view dtype, const std::vector<int64_t>& shape) {
  const std::optional<int> bits = dtype_bits(dtype);
  const std::optional<int64_t> count = element_count(shape);
  int64_t total_bits = 0;
  if (!bits || !count) return std::nullopt;
  if (*bits % 8 == 0) {
    int64_t bytes = 0;
    if (__builtin_mul_overflow(*count, *bits / 8, &bytes)) return std::nullopt;
    return static_cast<uint64_t>(bytes);
  }
  if (__builtin_mul_overflow(*count, *bits, &total_bits)) return std::nullopt;
  if (total_bits % 8 != 0) return std::nullopt;
  return static_cast<uint64_t>(total_bits / 8);
}

bool is_tensor_name(std::string_view name) {
  if (name.empty() || name.size() > 512 || name == kMetadata || name.front() == '/') return false;
  for (const char byte : name) {
    if (static_cast<unsigned char>(byte) < 0x20 || byte == 0x7f) return false;
  }
  const std::string between_slashes = "/" + std::string(name) + "/";
  return between_slashes.find("/../") == std::string::npos;
}

SafetensorsReader::SafetensorsReader(const std::string& path, Symlinks symlinks)
    : file_(path, symlinks) {
  const std::string_view text = header_of(file_);
  const nlohmann::json header = parse_json(text, path, {kMaxHeaderBytes, kMaxDepth});
  if (header.size() > kMaxTensors) throw DataError(path + ": more than 1,000,000 tensors");
  for (const auto& [name, json] : header.items()) {
    if (name == kMetadata) {
      metadata_ = metadata_of(json, path + ": " + kMetadata);
      continue;
    }
    const std::string where = path + ": tensor " + nlohmann::json(name).dump();  // escaped
    if (!is_tensor_name(name)) throw DataError(where + ": not a name that a tensor may have");
    tensors_.push_back(entry_of(name, json, where));
  }
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  uint64_t data_begin = 0;
  std::memcpy(&data_begin, file_.data(), kLengthBytes);
  data_begin += kLengthBytes;
  check_contiguous(tensors_, file_.size() - data_begin, path);
  for (size_t i = 0; i < tensors_.size(); ++i) {
    tensors_[i].offset += data_begin;
    index_.emplace(tensors_[i].name, i);
  }
}

const TensorEntry* SafetensorsReader::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

const TensorEntry& SafetensorsReader::at(const std::string& name) const {
  const TensorEntry* entry = find(name);
  if (entry == nullptr) throw DataError(path() + ": no tensor \"" + name + "\"");
  return *entry;
}

SafetensorsWriter::SafetensorsWriter(const std::string& path,
                                     const std::vector<TensorDeclaration>& declarations,
                                     const std::map<std::string, std::string>& metadata,
                                     OpenMode mode)
    : tensors_(lay_out(declarations)), file_(path, mode) {
  const std::string header = header_text(tensors_, metadata);
  header_bytes_ = header.size();
  header_xxh3_ = xxh3(header.data(), header.size());
  file_bytes_ = header_bytes_;
  for (TensorEntry& entry : tensors_) {
    entry.offset += header_bytes_;
    file_bytes_ += entry.bytes;
  }
  file_.append(header);
}

void SafetensorsWriter::append(const void* data, size_t bytes) {
  if (bytes > file_bytes_ - file_.position()) {
    throw std::logic_error(file_.path() + ": more bytes than the declared tensors have");
  }
  file_.append(data, bytes);
}

void SafetensorsWriter::finish() {
  if (file_.position() != file_bytes_) {
    throw std::logic_error(file_.path() + ": " + std::to_string(file_bytes_ - file_.position()) +
                           " bytes of the declared tensors were not written");
  }
  file_.fsync();
  file_.close();
}

void sort_declarations(std::vector<TensorDeclaration>& declarations) {
  std::sort(declarations.begin(), declarations.end(),
            [](const TensorDeclaration& a, const TensorDeclaration& b) {
              const int bits_a = dtype_bits(a.dtype).value_or(0);
              const int bits_b = dtype_bits(b.dtype).value_or(0);
              return std::tie(bits_b, a.name) < std::tie(bits_a, b.name);
            });
}

}  // namespace switchyard
