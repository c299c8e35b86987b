#include "hf/tensor_files.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "base/safetensors.h"

namespace switchyard {
namespace {

constexpr int64_t kPieceElements = int64_t{4} << 20;

using Shard = std::vector<OutgoingTensor>;

uint64_t bytes_of(const OutgoingTensor& tensor) {
  return *tensor_bytes(tensor.dtype, tensor.shape);
}

std::vector<Shard> cut_into_shards(const std::vector<OutgoingTensor>& tensors,
                                   uint64_t shard_bytes) {
  std::vector<Shard> shards(1);
  uint64_t filled = 0;
  for (const OutgoingTensor& tensor : tensors) {
    if (!shards.back().empty() && filled + bytes_of(tensor) > shard_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    filled += bytes_of(tensor);
    shards.back().push_back(tensor);
  }
  return shards;
}

std::string file_name(size_t index, size_t count) {
  if (count == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

void append_tensor(SafetensorsWriter& file, TensorSource& source, const OutgoingTensor& tensor) {
  const int64_t elements = *element_count(tensor.shape);
  at::Tensor piece = at::empty({std::min(elements, kPieceElements)}, scalar_type(tensor.dtype));
  for (int64_t at = 0; at < elements; at += kPieceElements) {
    const Interval range{at, std::min(at + kPieceElements, elements)};
    const at::Tensor values = piece.narrow(0, 0, range.size());
    source.read_into(tensor.origin, range, values);
    file.append(values.data_ptr(), values.nbytes());
  }
}

void write_shard_file(TensorSource& source, const Shard& shard, const std::string& path) {
  std::vector<TensorDeclaration> declarations;
  std::map<std::string, const OutgoingTensor*> by_name;
  for (const OutgoingTensor& tensor : shard) {
    declarations.push_back({tensor.name, tensor.dtype, tensor.shape});
    by_name[tensor.name] = &tensor;
  }
  sort_declarations(declarations);
  SafetensorsWriter file(path, declarations, {{"format", "pt"}}, OpenMode::kCreateNew);
  for (const TensorDeclaration& declared : declarations) {
    append_tensor(file, source, *by_name[declared.name]);
  }
  file.finish();
}

void write_index(const std::vector<Shard>& shards, const TensorFiles& written,
                 const std::string& folder) {
  nlohmann::json map = nlohmann::json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    for (const OutgoingTensor& tensor : shards[i]) map[tensor.name] = written.names[i];
  }
  const nlohmann::ordered_json index = {
      {"metadata", {{"total_parameters", written.elements}, {"total_size", written.bytes}}},
      {"weight_map", map}};
  FileWriter file(folder + "/model.safetensors.index.json", OpenMode::kCreateNew);
  file.append(index.dump(2) + "\n");
  file.fsync();
  file.close();
}

}  // namespace

TensorFiles write_tensor_files(TensorSource& source, const std::vector<OutgoingTensor>& tensors,
                               uint64_t shard_bytes, const std::string& folder) {
  const std::vector<Shard> shards = cut_into_shards(tensors, shard_bytes);
  TensorFiles written;
  for (const OutgoingTensor& tensor : tensors) {
    written.bytes += bytes_of(tensor);
    written.elements += static_cast<uint64_t>(*element_count(tensor.shape));
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    written.names.push_back(file_name(i, shards.size()));
    write_shard_file(source, shards[i], folder + "/" + written.names.back());
  }
  if (shards.size() > 1) write_index(shards, written, folder);
  return written;
}

}  // namespace switchyard
