#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// Calls `body(scalar_t{})` for the compute dtypes: float32, bfloat16, float64
/// (the last for gradient checks).
template <class Body>
void dispatch_dtype(at::ScalarType dtype, const Body& body) {
  switch (dtype) {
    case at::kFloat:
      return body(float{});
    case at::kBFloat16:
      return body(at::BFloat16{});
    case at::kDouble:
      return body(double{});
    default:
      TORCH_CHECK(false, "expected float32, bfloat16 or float64, got ", dtype);
  }
}

/// What sums of `scalar_t` are kept in: float32 for bfloat16, else itself.
template <class scalar_t>
using accumulate_t = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;

}  // namespace switchyard
