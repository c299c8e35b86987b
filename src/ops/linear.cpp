#include "ops/linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ops/blocked_rows.h"

namespace switchyard {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class BlockedLinear : public torch::autograd::Function<BlockedLinear> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x_TD, const Tensor& weight_FD) {
    ctx->save_for_backward({x_TD, weight_FD});
    return rows_times_transposed(x_TD, weight_FD, {x_TD.size(0)});
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x_TD = saved[0], &weight_FD = saved[1];
    const Tensor dy_TF = grads[0].contiguous();
    const std::vector<int64_t> rows = {x_TD.size(0)};
    Tensor dx_TD, dweight_FD;
    if (ctx->needs_input_grad(0)) dx_TD = rows_times(dy_TF, weight_FD, rows);
    if (ctx->needs_input_grad(1)) dweight_FD = add_weight_gradient(dy_TF, x_TD, weight_FD, rows);
    return {dx_TD, dweight_FD};
  }
};

}  // namespace

Tensor linear_projection(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const Tensor x_TD = x.reshape({-1, x.size(-1)}).contiguous();
  if (!fits_blocked_rows(x_TD, weight)) return at::linear(x, weight, bias);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(0);
  const Tensor y = BlockedLinear::apply(x_TD, weight).view(shape);
  return bias.defined() ? y + bias : y;
}

}  // namespace switchyard
