#include "ops/weight_gradient.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

bool is_in_place(const at::Tensor& weight) {
  if (!weight.is_leaf()) return false;
  const at::Tensor& gradient = weight.grad();
  return gradient.defined() && gradient.scalar_type() == at::kFloat && gradient.is_contiguous();
}

}  // namespace

WeightGradient::WeightGradient(const at::Tensor& weight)
    : in_place_(is_in_place(weight)),
      sum_(in_place_ ? weight.grad() : at::zeros(weight.sizes(), at::kFloat)) {}

}  // namespace switchyard
