#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/shard.h"
#include "distributed/placement.h"

namespace switchyard {

/// A tensor that can be read: see manifest.h for names and kinds.
struct TensorInfo {
  std::string name;
  std::vector<int64_t> shape;
  std::string dtype;  // "F32"
  std::string kind;   // "dense", "expert", "state"
};

/// A model's tensors under native names, wherever they come from: a checkpoint, a
/// Hugging Face folder, or another model's tensors that are changed on the way
/// (upcycling). What loads, saves or exports a model asks this, so that each of them
/// works with every origin, one tensor at a time.
///
/// Local: every rank has its own and reads what it needs. One thread at a time.
class TensorSource {
 public:
  virtual ~TensorSource() = default;

  /// Every tensor, sorted by name.
  virtual const std::vector<TensorInfo>& tensors() const = 0;

  /// Elements [begin, end) of the flattened tensor, in its own dtype, to `out`, which
  /// has room for them. Throws DataError that names file and tensor.
  virtual void read(const TensorInfo& tensor, Interval range, void* out) = 0;

  /// What messages call the source: a folder.
  virtual const std::string& path() const = 0;

  /// Null when there is none of that name.
  const TensorInfo* find(const std::string& name) const;
  bool has(const std::string& name) const { return find(name) != nullptr; }
  /// Throws DataError when there is none of that name.
  const TensorInfo& at(const std::string& name) const;

  /// The whole tensor, in its own shape and dtype.
  at::Tensor read(const std::string& name);

  /// Elements [range) of a tensor of floating point numbers into `out` (flat, of as many
  /// elements), whatever dtype either has: straight into its memory when they are the
  /// same and it is the host's, in pieces of 1 Mi elements otherwise, to a GPU through pinned
  /// memory.
  void read_into(const std::string& name, Interval range, at::Tensor out);
};

/// Whether a tensor is a parameter's weights, not its ".master", ".exp_avg" or
/// ".exp_avg_sq", nor other state.
bool is_weight(const TensorInfo& tensor);

/// The most precise that a source has of a parameter: NAME.master, or NAME.
std::string best_name(const TensorSource& source, const std::string& name);

/// The tensors of a Switchyard checkpoint.
class CheckpointSource : public TensorSource {
 public:
  explicit CheckpointSource(const std::string& step_dir, Digests digests = Digests::kCheck);

  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void read(const TensorInfo& tensor, Interval range, void* out) override;
  const std::string& path() const override { return reader_.path(); }

  CheckpointReader& reader() { return reader_; }

  using TensorSource::read;

 private:
  CheckpointReader reader_;
  std::vector<TensorInfo> tensors_;
};

/// A checkpoint's name for a dtype ("F32", "BF16", "F16", "F64", "I64", "BOOL"), and back.
/// Throws c10::Error for one that no checkpoint has.
const char* dtype_name(at::ScalarType dtype);
at::ScalarType scalar_type(const std::string& dtype);

/// Slices that together are every tensor of `source`, each whole and on one rank, about
/// as many bytes on each of `world_size` ranks, made when they are written: which rank
/// writes a tensor depends on nothing but the tensors. Only `rank`'s. The source must
/// outlive them.
std::vector<OwnedSlice> slices_of(TensorSource& source, int rank, int world_size);

}  // namespace switchyard
