#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

// A checkpoint is a folder:
//
//   step-00001200/
//     manifest.json            below; written last
//     rank-00000.safetensors   the slices that rank 0 owned when it saved
//     rank-00001.safetensors   ...
//     config.yaml              the run's resolved config
//     tokenizer.json           and whatever else was handed to save_checkpoint
//
// manifest.json, one tensor to a line:
//
//   {
//   "format": "switchyard-checkpoint",
//   "version": 1,
//   "save_id": "<32 hex digits, drawn for this save; also in each shard's __metadata__>",
//   "step": 1200,
//   "cursor": 9600,                        samples consumed
//   "config_xxh3": "<digest of config.yaml>",
//   "layout": {"world": 4, "expert": 2, "zero": 1},
//   "state": {...},                        the trainer's own, free in form
//   "files": {"config.yaml": {"bytes": 512, "xxh3": "..."}, ...},
//   "shards": {"rank-00000.safetensors":
//                {"bytes": 8192, "header_bytes": 512, "header_xxh3": "..."}, ...},
//   "tensors": [
//   {"name": "model.norm.weight", "shape": [64], "dtype": "F32", "kind": "dense", "slices":
//     [{"begin": 0, "end": 64, "file": "rank-00000.safetensors",
//       "offset": 512, "bytes": 256, "xxh3": "..."}, ...]},
//   ...
//   ],
//   "manifest_xxh3": "<digest of every byte before this key's comma>"
//   }
//
// So every byte is covered: a shard's header by header_xxh3, its data by the
// slices (which must leave no byte of it out), the other files by their digests,
// and the manifest by its own last key. A digest is the xxh3 of base/checksum.h.
//
// A parameter P has the tensors
//   P                      its weights
//   P.master               float32 weights, when the weights are bfloat16
//   P.exp_avg, P.exp_avg_sq  AdamW's moments
// of kind "dense" or "expert"; other numbers that training carries along, such
// as "model.layers.3.mlp.gate.e_score_correction_bias", are of kind "state".
// Experts are named by their global number, so no layout is in any name.

inline constexpr const char* kManifestName = "manifest.json";
inline constexpr const char* kConfigName = "config.yaml";
inline constexpr int kManifestVersion = 1;

/// Elements [begin, end) of a flattened tensor and where their bytes are.
struct Slice {
  int64_t begin = 0;
  int64_t end = 0;
  size_t shard = 0;  // index into Manifest::shards
  uint64_t offset = 0;
  uint64_t bytes = 0;
  uint64_t xxh3 = 0;
};

struct TensorRecord {
  std::string name;
  std::vector<int64_t> shape;
  std::string dtype;          // "F32"
  std::string kind;           // "dense", "expert", "state"
  std::vector<Slice> slices;  // by begin; they tile the tensor exactly once
};

struct ShardRecord {
  std::string name;
  uint64_t bytes = 0;
  uint64_t header_bytes = 0;
  uint64_t header_xxh3 = 0;
};

struct FileRecord {
  std::string name;
  uint64_t bytes = 0;
  uint64_t xxh3 = 0;
};

struct Manifest {
  std::string save_id;
  int64_t step = 0;
  uint64_t cursor = 0;
  uint64_t config_xxh3 = 0;
  int world = 1;
  int expert_parallel = 1;
  int zero_stage = 0;
  nlohmann::json state = nlohmann::json::object();
  std::vector<FileRecord> files;
  std::vector<ShardRecord> shards;
  std::vector<TensorRecord> tensors;
};

/// "rank-00003.safetensors".
std::string shard_name(int rank);

/// Throws DataError, `origin` in front, unless the manifest keeps every promise
/// above: plain file names, unique tensors, known dtypes and kinds, slices that
/// tile each tensor exactly once and each shard without a gap.
void check_manifest(const Manifest& manifest, const std::string& origin);

/// Throws DataError, naming the tensor and the elements, unless the slices, sorted
/// by begin, cover each of `elements` exactly once.
void check_tiling(const TensorRecord& tensor, int64_t elements, const std::string& origin);

/// The text of manifest.json.
std::string manifest_text(const Manifest& manifest);

/// The inverse: checks the digest, every field and check_manifest. Throws DataError.
Manifest parse_manifest(std::string_view text, const std::string& origin);

/// One slice, one tensor, as in the text: also what ranks send to each other.
/// Slices name their shard by `shards`.
nlohmann::ordered_json tensor_json(const TensorRecord& tensor,
                                   const std::vector<ShardRecord>& shards);
TensorRecord parse_tensor(const nlohmann::json& json, const std::vector<ShardRecord>& shards,
                          const std::string& origin);
nlohmann::ordered_json shard_json(const ShardRecord& shard);
ShardRecord parse_shard(const std::string& name, const nlohmann::json& json,
                        const std::string& origin);

}  // namespace switchyard
