#include "checkpoint/diff_checkpoints.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <span>
#include <tuple>
#include <type_traits>

#include "base/safetensors.h"
#include "checkpoint/tensor_stream.h"

namespace switchyard {
namespace {

using nlohmann::ordered_json;

constexpr size_t kPieceBytes = size_t{1} << 20;  // a multiple of every element

template <typename T>
double distance(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    const T high = std::max(a, b), low = std::min(a, b);
    return static_cast<double>(static_cast<uint64_t>(high) - static_cast<uint64_t>(low));
  } else {
    return std::abs(static_cast<double>(a) - static_cast<double>(b));
  }
}

/// NaN, once there, stays.
double larger(double a, double b) { return std::isnan(a) || a > b ? a : b; }

using Bytes = std::span<const std::byte>;

/// Adds the elements of two pieces of equal size.
template <typename T>
void add_numbers(Bytes first, Bytes second, TensorDifference& difference) {
  for (size_t at = 0; at < first.size(); at += sizeof(T)) {
    if (std::memcmp(first.data() + at, second.data() + at, sizeof(T)) == 0) continue;
    T a, b;
    std::memcpy(&a, first.data() + at, sizeof(T));
    std::memcpy(&b, second.data() + at, sizeof(T));
    ++difference.differing;
    difference.largest = larger(difference.largest, distance(a, b));
  }
}

/// The same for elements of one byte that are no numbers to us.
void add_bytes(Bytes first, Bytes second, TensorDifference& difference) {
  for (size_t at = 0; at < first.size(); ++at) difference.differing += first[at] != second[at];
  difference.largest = std::numeric_limits<double>::quiet_NaN();
}

using AddPiece = void (*)(Bytes, Bytes, TensorDifference&);

AddPiece add_piece_of(const std::string& dtype) {
  static const std::map<std::string, AddPiece> known = {
      {"F64", add_numbers<double>},    {"F32", add_numbers<float>},
      {"F16", add_numbers<c10::Half>}, {"BF16", add_numbers<c10::BFloat16>},
      {"I64", add_numbers<int64_t>},   {"I32", add_numbers<int32_t>},
      {"I16", add_numbers<int16_t>},   {"I8", add_numbers<int8_t>},
      {"U64", add_numbers<uint64_t>},  {"U32", add_numbers<uint32_t>},
      {"U16", add_numbers<uint16_t>},  {"U8", add_numbers<uint8_t>},
      {"BOOL", add_numbers<uint8_t>}};
  const auto found = known.find(dtype);
  return found == known.end() ? add_bytes : found->second;
}

ordered_json declaration_json(const TensorRecord& tensor) {
  return {{"shape", tensor.shape}, {"dtype", tensor.dtype}, {"kind", tensor.kind}};
}

bool same_declaration(const TensorRecord& a, const TensorRecord& b) {
  return std::tie(a.shape, a.dtype, a.kind) == std::tie(b.shape, b.dtype, b.kind);
}

std::map<std::string, const TensorRecord*> by_name(const Manifest& manifest) {
  std::map<std::string, const TensorRecord*> records;
  for (const TensorRecord& tensor : manifest.tensors) records[tensor.name] = &tensor;
  return records;
}

/// The window of the last steps' losses and norms: what was measured, which moves by rounding.
bool is_measurement(const std::string& path) {
  return path.starts_with("/last_losses") || path.starts_with("/last_norms");
}

/// "step", "cursor" and "state/...", each with its value.
std::map<std::string, nlohmann::json> fields_of(const Manifest& manifest) {
  std::map<std::string, nlohmann::json> fields = {{"step", manifest.step},
                                                  {"cursor", manifest.cursor}};
  const nlohmann::json state = manifest.state.flatten();
  for (const auto& [path, value] : state.items()) {
    if (!is_measurement(path)) fields["state" + path] = value;
  }
  return fields;
}

std::vector<FieldDifference> diff_fields(const Manifest& first, const Manifest& second) {
  const std::map<std::string, nlohmann::json> here = fields_of(first), there = fields_of(second);
  std::vector<FieldDifference> differences;
  for (const auto& [name, value] : here) {
    const auto found = there.find(name);
    const nlohmann::json other = found == there.end() ? nlohmann::json() : found->second;
    if (value != other || found == there.end()) differences.push_back({name, value, other});
  }
  for (const auto& [name, value] : there) {
    if (!here.contains(name)) differences.push_back({name, nullptr, value});
  }
  return differences;
}

TensorDifference diff_tensor(CheckpointReader& first, CheckpointReader& second,
                             const TensorRecord& a, const TensorRecord& b) {
  TensorDifference difference{a.name, *element_count(a.shape), 0, 0};
  const AddPiece add_piece = add_piece_of(a.dtype);
  TensorStream stream_a(first, a), stream_b(second, b);
  const size_t piece_bytes = std::min<uint64_t>(kPieceBytes, *tensor_bytes(a.dtype, a.shape));
  std::vector<std::byte> piece_a(piece_bytes), piece_b(piece_bytes);
  while (const size_t bytes = stream_a.read(piece_a)) {
    stream_b.read(std::span(piece_b).first(bytes));
    if (std::memcmp(piece_a.data(), piece_b.data(), bytes) == 0) continue;
    add_piece(Bytes(piece_a).first(bytes), Bytes(piece_b).first(bytes), difference);
  }
  return difference;
}

}  // namespace

ManifestDifference diff_manifests(const Manifest& first, const Manifest& second) {
  ManifestDifference difference;
  difference.fields = diff_fields(first, second);
  const auto here = by_name(first), there = by_name(second);
  for (const auto& [name, tensor] : here) {
    const auto found = there.find(name);
    if (found == there.end()) {
      difference.only_in_first.push_back(name);
    } else if (!same_declaration(*tensor, *found->second)) {
      difference.declarations.push_back(
          {name, declaration_json(*tensor), declaration_json(*found->second)});
    }
  }
  for (const auto& [name, tensor] : there) {
    if (!here.contains(name)) difference.only_in_second.push_back(name);
  }
  return difference;
}

std::vector<TensorDifference> diff_tensors(CheckpointReader& first, CheckpointReader& second,
                                           int part, int parts) {
  std::vector<TensorDifference> differences;
  const std::vector<TensorRecord>& tensors = first.manifest().tensors;
  for (size_t i = part; i < tensors.size(); i += parts) {
    if (!second.has(tensors[i].name)) continue;
    const TensorRecord& other = second.tensor(tensors[i].name);
    if (!same_declaration(tensors[i], other)) continue;
    TensorDifference difference = diff_tensor(first, second, tensors[i], other);
    if (difference.differing > 0) differences.push_back(std::move(difference));
  }
  sort_worst_first(differences);
  return differences;
}

void sort_worst_first(std::vector<TensorDifference>& tensors) {
  const auto key = [](const TensorDifference& tensor) {
    const double share =
        static_cast<double>(tensor.differing) / static_cast<double>(tensor.elements);
    const bool finite_or_infinite = !std::isnan(tensor.largest);
    return std::tuple(finite_or_infinite, finite_or_infinite ? -tensor.largest : 0, -share,
                      tensor.name);
  };
  std::sort(tensors.begin(), tensors.end(),
            [&](const TensorDifference& a, const TensorDifference& b) { return key(a) < key(b); });
}

}  // namespace switchyard
