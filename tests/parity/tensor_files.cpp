#include "parity/tensor_files.h"

#include <ATen/ATen.h>

#include <cstring>

namespace switchyard {

at::Tensor read_tensor(const SafetensorsReader& reader, const std::string& name) {
  const TensorEntry& entry = reader.at(name);
  at::Tensor x = at::empty(entry.shape, entry.dtype == "I64" ? at::kLong : at::kFloat);
  TORCH_CHECK(x.nbytes() == entry.bytes, name, ": expected F32 or I64, got ", entry.dtype);
  std::memcpy(x.data_ptr(), reader.data(entry), entry.bytes);
  return x;
}

void write_tensors(const std::string& path,
                   const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
  std::vector<TensorDeclaration> declarations;
  for (const auto& [name, x] : tensors) {
    declarations.push_back({name, x.scalar_type() == at::kLong ? "I64" : "F32", x.sizes().vec()});
  }
  SafetensorsWriter writer(path, declarations);
  for (const auto& [name, x] : tensors) writer.append(x.data_ptr(), x.nbytes());
  writer.finish();
}

}  // namespace switchyard
