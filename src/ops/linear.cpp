#include "ops/linear.h"

#include <ATen/ATen.h>

#include "ops/blocked_rows.h"
#include "ops/grouped_matmul.h"

namespace switchyard {

at::Tensor linear_projection(const at::Tensor& x, const at::Tensor& weight,
                             const at::Tensor& bias) {
  const at::Tensor x_TD = x.reshape({-1, x.size(-1)}).contiguous();
  if (x_TD.is_cpu() && !fits_blocked_rows(x_TD, weight)) return at::linear(x, weight, bias);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(0);
  const at::Tensor y = grouped_matmul(x_TD, weight, {x_TD.size(0)}).view(shape);
  return bias.defined() ? y + bias : y;
}

}  // namespace switchyard
