#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// Where a backward adds the gradient of a weight: into weight.grad() itself where that is a
/// contiguous float32 tensor, as the parameter store binds it (no copy, no second rounding),
/// else into zeros that autograd gets.
class WeightGradient {
 public:
  /// `weight`: a leaf, or any tensor of the graph.
  explicit WeightGradient(const at::Tensor& weight);

  /// Shaped like the weight; float32, or float64 as the weight is.
  const at::Tensor& sum() const { return sum_; }

  /// What backward returns for the weight: undefined where the sum is in its place already.
  at::Tensor for_autograd() const { return in_place_ ? at::Tensor() : sum_; }

 private:
  bool in_place_;
  at::Tensor sum_;
};

}  // namespace switchyard
