#include "checkpoint/tensor_source.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "base/error.h"
#include "base/safetensors.h"

namespace switchyard {
namespace {

using at::Tensor;

const std::map<std::string, at::ScalarType>& scalar_types() {
  static const std::map<std::string, at::ScalarType> types = {
      {"F64", at::kDouble}, {"F32", at::kFloat}, {"BF16", at::kBFloat16},
      {"F16", at::kHalf},   {"I64", at::kLong},  {"BOOL", at::kBool}};
  return types;
}

int64_t elements_of(const TensorInfo& tensor) { return *element_count(tensor.shape); }

bool comes_before(const TensorInfo& tensor, const std::string& name) { return tensor.name < name; }

OwnedSlice whole_slice(TensorSource& source, const TensorInfo& tensor) {
  OwnedSlice slice{tensor.name, tensor.shape, tensor.dtype, tensor.kind, 0, elements_of(tensor)};
  slice.make = [&source, &tensor](void* out) {
    source.read(tensor, {0, elements_of(tensor)}, out);
  };
  return slice;
}

}  // namespace

const char* dtype_name(at::ScalarType dtype) {
  for (const auto& [name, type] : scalar_types()) {
    if (type == dtype) return name.c_str();
  }
  TORCH_CHECK(false, "no checkpoint dtype for ", dtype);
}

at::ScalarType scalar_type(const std::string& dtype) {
  const auto found = scalar_types().find(dtype);
  TORCH_CHECK(found != scalar_types().end(), "no tensor type for ", dtype);
  return found->second;
}

const TensorInfo* TensorSource::find(const std::string& name) const {
  const std::vector<TensorInfo>& all = tensors();
  const auto found = std::lower_bound(all.begin(), all.end(), name, comes_before);
  return found == all.end() || found->name != name ? nullptr : &*found;
}

const TensorInfo& TensorSource::at(const std::string& name) const {
  if (const TensorInfo* found = find(name)) return *found;
  throw DataError(path() + ": no tensor \"" + name + "\"");
}

Tensor TensorSource::read(const std::string& name) {
  const TensorInfo& tensor = at(name);
  Tensor values = at::empty(tensor.shape, scalar_type(tensor.dtype));
  read(tensor, {0, elements_of(tensor)}, values.data_ptr());
  return values;
}

void TensorSource::read_into(const std::string& name, Interval range, Tensor out) {
  const TensorInfo& tensor = at(name);
  const at::ScalarType stored = scalar_type(tensor.dtype);
  if (!at::isFloatingType(stored)) {
    throw DataError(path() + ": \"" + name + "\" is " + tensor.dtype + ", no floating point");
  }
  if (stored == out.scalar_type() && out.is_contiguous() && out.is_cpu()) {
    read(tensor, range, out.data_ptr());
    return;
  }
  constexpr int64_t kPiece = int64_t{1} << 20;
  const Tensor buffer = at::empty({std::min(kPiece, range.size())},
                                  at::TensorOptions(stored).pinned_memory(out.is_cuda()));
  for (int64_t at = range.begin; at < range.end; at += kPiece) {
    const Interval piece{at, std::min(at + kPiece, range.end)};
    const Tensor values = buffer.narrow(0, 0, piece.size());
    read(tensor, piece, values.data_ptr());
    out.narrow(0, at - range.begin, piece.size()).copy_(values);
  }
}

bool is_weight(const TensorInfo& tensor) {
  const std::string& name = tensor.name;
  return tensor.kind != "state" && !name.ends_with(".master") && !name.ends_with(".exp_avg") &&
         !name.ends_with(".exp_avg_sq");
}

std::string best_name(const TensorSource& source, const std::string& name) {
  return source.has(name + ".master") ? name + ".master" : name;
}

CheckpointSource::CheckpointSource(const std::string& step_dir, Digests digests)
    : reader_(step_dir, digests) {
  for (const TensorRecord& record : reader_.manifest().tensors) {
    tensors_.push_back({record.name, record.shape, record.dtype, record.kind});
  }
  std::ranges::sort(tensors_, {}, &TensorInfo::name);
}

void CheckpointSource::read(const TensorInfo& tensor, Interval range, void* out) {
  reader_.read(tensor.name, tensor.dtype, range.begin, range.end, out);
}

std::vector<OwnedSlice> slices_of(TensorSource& source, int rank, int world_size) {
  uint64_t total = 0;
  for (const TensorInfo& tensor : source.tensors()) {
    total += *tensor_bytes(tensor.dtype, tensor.shape);
  }
  std::vector<OwnedSlice> slices;
  uint64_t before = 0;
  for (const TensorInfo& tensor : source.tensors()) {
    // The rank into whose share of all bytes the tensor's first one falls.
    const auto owner =
        static_cast<int>(static_cast<double>(before) /
                         static_cast<double>(std::max<uint64_t>(total, 1)) * world_size);
    before += *tensor_bytes(tensor.dtype, tensor.shape);
    if (std::min(owner, world_size - 1) == rank) slices.push_back(whole_slice(source, tensor));
  }
  return slices;
}

}  // namespace switchyard
