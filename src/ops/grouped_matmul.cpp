#include "ops/grouped_matmul.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <numeric>

#include "ops/blocked_rows.h"
#include "ops/device_products.h"
#include "ops/weight_gradient.h"

// R rows, E experts on this rank, D columns in, F columns out.

namespace switchyard {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class BlockedMatmul : public torch::autograd::Function<BlockedMatmul> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x_RD, const Tensor& w_EFD,
                        const std::vector<int64_t>& rows_E) {
    ctx->save_for_backward({x_RD, w_EFD});
    ctx->saved_data["rows"] = rows_E;
    return rows_times_transposed(x_RD, w_EFD, rows_E);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x_RD = saved[0], &w_EFD = saved[1];
    const std::vector<int64_t> rows_E = ctx->saved_data["rows"].toIntVector();
    const Tensor dy_RF = grads[0].contiguous();
    Tensor dx_RD, dw_EFD;
    if (ctx->needs_input_grad(0)) dx_RD = rows_times(dy_RF, w_EFD, rows_E);
    if (ctx->needs_input_grad(1)) dw_EFD = add_weight_gradient(dy_RF, x_RD, w_EFD, rows_E);
    return {dx_RD, dw_EFD, Tensor()};
  }
};

Tensor matrices(const Tensor& w) { return w.dim() == 2 ? w.unsqueeze(0) : w; }

/// By LibTorch's products: every dtype, on every device.
class LibraryMatmul : public torch::autograd::Function<LibraryMatmul> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x_RD, const Tensor& w_EFD,
                        const std::vector<int64_t>& rows_E) {
    ctx->save_for_backward({x_RD, w_EFD});
    ctx->saved_data["rows"] = rows_E;
    return rows_times_groups(x_RD, matrices(w_EFD).transpose(1, 2), rows_E,
                             products_for(x_RD, w_EFD));
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x_RD = saved[0], &w_EFD = saved[1];
    const std::vector<int64_t> rows_E = ctx->saved_data["rows"].toIntVector();
    const Tensor dy_RF = grads[0].contiguous();
    Tensor dx_RD, dw_EFD;
    if (ctx->needs_input_grad(0)) {
      dx_RD = rows_times_groups(dy_RF, matrices(w_EFD), rows_E, products_for(dy_RF, w_EFD));
    }
    if (ctx->needs_input_grad(1)) {
      const WeightGradient gradient(w_EFD);
      add_group_products(dy_RF, x_RD, rows_E, matrices(gradient.sum()));
      dw_EFD = gradient.for_autograd();
    }
    return {dx_RD, dw_EFD, Tensor()};
  }
};

}  // namespace

Tensor grouped_matmul(const Tensor& x_RD, const Tensor& w_EFD, const std::vector<int64_t>& rows_E) {
  const int64_t total = std::accumulate(rows_E.begin(), rows_E.end(), int64_t{0});
  const int64_t groups = w_EFD.dim() == 2 ? 1 : w_EFD.size(0);
  TORCH_CHECK(x_RD.dim() == 2 && (w_EFD.dim() == 2 || w_EFD.dim() == 3) &&
                  x_RD.size(1) == w_EFD.size(-1) && x_RD.size(0) == total &&
                  static_cast<int64_t>(rows_E.size()) == groups,
              "grouped_matmul: x_RD ", x_RD.sizes(), ", w_EFD ", w_EFD.sizes(), ", ", rows_E.size(),
              " groups of ", total, " rows in all");
  const Tensor x = x_RD.contiguous();
  if (fits_blocked_rows(x, w_EFD)) return BlockedMatmul::apply(x, w_EFD, rows_E);
  return LibraryMatmul::apply(x, w_EFD, rows_E);
}

}  // namespace switchyard
