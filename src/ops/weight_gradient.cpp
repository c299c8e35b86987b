#include "ops/weight_gradient.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

at::ScalarType sum_dtype(const at::Tensor& weight) {
  return weight.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

bool is_in_place(const at::Tensor& weight) {
  if (!weight.is_leaf()) return false;
  const at::Tensor& gradient = weight.grad();
  return gradient.defined() && gradient.scalar_type() == sum_dtype(weight) &&
         gradient.is_contiguous();
}

}  // namespace

WeightGradient::WeightGradient(const at::Tensor& weight)
    : in_place_(is_in_place(weight)),
      sum_(in_place_ ? weight.grad()
                     : at::zeros(weight.sizes(), weight.options().dtype(sum_dtype(weight)))) {}

}  // namespace switchyard
