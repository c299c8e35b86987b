#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "base/safetensors.h"

namespace switchyard {

/// A float32 or int64 tensor of a safetensors file.
at::Tensor read_tensor(const SafetensorsReader& reader, const std::string& name);

/// Writes contiguous float32 and int64 tensors under their names.
void write_tensors(const std::string& path,
                   const std::vector<std::pair<std::string, at::Tensor>>& tensors);

}  // namespace switchyard
