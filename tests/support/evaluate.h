#pragma once

#include "support/tensors.h"

namespace switchyard {

/// f(inputs) and the gradients of a weighted sum of it, computed on `device` in `dtype`: what f
/// gives, then the gradient of each input of floating point, in float64 on the host.
///
///   inputs  on the host: float64, of values that bfloat16 has (`coarse_tensor`), or of another
///           dtype, which they keep
std::vector<at::Tensor> evaluate(const TensorFunction& f, const std::vector<at::Tensor>& inputs,
                                 c10::Device device, at::ScalarType dtype);

/// normal_tensor in float64, rounded to bfloat16: the same numbers in every dtype.
at::Tensor coarse_tensor(std::vector<int64_t> shape, std::string_view name);

/// `near` for each.
testing::AssertionResult all_near(const std::vector<at::Tensor>& actual,
                                  const std::vector<at::Tensor>& expected, double tolerance);

/// `same` for each.
testing::AssertionResult all_same(const std::vector<at::Tensor>& actual,
                                  const std::vector<at::Tensor>& expected);

}  // namespace switchyard
