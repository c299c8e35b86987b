#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <functional>
#include <string_view>
#include <vector>

namespace switchyard {

/// Standard normal values, a function of (name, element) only.
at::Tensor normal_tensor(std::vector<int64_t> shape, std::string_view name,
                         at::ScalarType dtype = at::kDouble);

/// Equal shape, dtype and every element.
testing::AssertionResult same(const at::Tensor& actual, const at::Tensor& expected);

/// Equal shape and dtype, and |actual - expected| <= tolerance * max(1, |expected|)
/// everywhere, in float64; tells the worst element.
testing::AssertionResult near(const at::Tensor& actual, const at::Tensor& expected,
                              double tolerance);

/// A function of float64 tensors.
using TensorFunction = std::function<at::Tensor(const std::vector<at::Tensor>&)>;

/// Compares the gradients of f at `inputs` (float64, a leaf each) with central
/// finite differences, one element after the other. f must be smooth there.
testing::AssertionResult gradients_match(const TensorFunction& f, std::vector<at::Tensor> inputs,
                                         double tolerance = 1e-8);

/// The gradients of sum(f(inputs) * weight) at `inputs`.
std::vector<at::Tensor> gradients_of(const TensorFunction& f, std::vector<at::Tensor> inputs,
                                     const at::Tensor& weight);

}  // namespace switchyard
