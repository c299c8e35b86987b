#pragma once

#include <ATen/ATen.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/tensor_source.h"

namespace switchyard {

/// Tensors in memory as a source; remembers the largest piece that was read at once.
class MemorySource : public TensorSource {
 public:
  MemorySource(std::map<std::string, at::Tensor> values, const std::string& kind = "dense")
      : values_(std::move(values)) {
    for (const auto& [name, tensor] : values_) {
      tensors_.push_back({name, tensor.sizes().vec(), dtype_name(tensor.scalar_type()), kind});
    }
  }

  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const std::string& path() const override { return path_; }
  using TensorSource::read;
  void read(const TensorInfo& tensor, Interval range, void* out) override {
    const at::Tensor& values = values_.at(tensor.name);
    largest_piece_ = std::max(largest_piece_, range.size());
    std::memcpy(out,
                static_cast<const char*>(values.data_ptr()) + range.begin * values.element_size(),
                static_cast<size_t>(range.size()) * values.element_size());
  }

  int64_t largest_piece() const { return largest_piece_; }

 private:
  std::map<std::string, at::Tensor> values_;
  std::vector<TensorInfo> tensors_;
  std::string path_ = "memory";
  int64_t largest_piece_ = 0;
};

}  // namespace switchyard
