#include "checkpoint/summary.h"

#include <string_view>
#include <unordered_set>

#include "base/safetensors.h"

namespace switchyard {
namespace {

using Names = std::unordered_set<std::string>;

/// Whether a tensor belongs to a parameter that is there too.
bool is_companion(const std::string& name, const Names& names) {
  for (const std::string_view suffix : {".master", ".exp_avg", ".exp_avg_sq"}) {
    if (!name.ends_with(suffix)) continue;
    if (names.contains(name.substr(0, name.size() - suffix.size()))) return true;
  }
  return false;
}

}  // namespace

std::map<std::string, KindSummary> summarize(const Manifest& manifest) {
  Names names;
  for (const TensorRecord& tensor : manifest.tensors) names.insert(tensor.name);
  std::map<std::string, KindSummary> kinds;
  for (const TensorRecord& tensor : manifest.tensors) {
    KindSummary& kind = kinds[tensor.kind];
    ++kind.tensors;
    kind.bytes += *tensor_bytes(tensor.dtype, tensor.shape);
    if (tensor.kind != "state" && !is_companion(tensor.name, names)) {
      kind.parameters += *element_count(tensor.shape);
    }
  }
  return kinds;
}

uint64_t file_bytes(const Manifest& manifest) {
  uint64_t bytes = 0;
  for (const FileRecord& file : manifest.files) bytes += file.bytes;
  for (const ShardRecord& shard : manifest.shards) bytes += shard.bytes;
  return bytes;
}

}  // namespace switchyard
