#include "ops/grouped_matmul.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <numeric>

#include "ops/blocked_rows.h"

// R rows, E experts on this rank, D columns in, F columns out.

namespace switchyard {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Calls `body(e, begin, rows)` for each expert that has rows.
template <class Body>
void for_each_group(const std::vector<int64_t>& rows_E, const Body& body) {
  int64_t begin = 0;
  for (size_t e = 0; e < rows_E.size(); ++e) {
    if (rows_E[e] > 0) body(static_cast<int64_t>(e), begin, rows_E[e]);
    begin += rows_E[e];
  }
}

/// One library product per expert: every dtype, on every machine.
class LoopedMatmul : public torch::autograd::Function<LoopedMatmul> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x_RD, const Tensor& w_EFD,
                        const std::vector<int64_t>& rows_E) {
    ctx->save_for_backward({x_RD, w_EFD});
    ctx->saved_data["rows"] = rows_E;
    Tensor y_RF = at::empty({x_RD.size(0), w_EFD.size(1)}, x_RD.options());
    for_each_group(rows_E, [&](int64_t e, int64_t begin, int64_t rows) {
      Tensor out = y_RF.narrow(0, begin, rows);
      at::mm_out(out, x_RD.narrow(0, begin, rows), w_EFD[e].t());
    });
    return y_RF;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x_RD = saved[0], &w_EFD = saved[1];
    const std::vector<int64_t> rows_E = ctx->saved_data["rows"].toIntVector();
    const Tensor dy_RF = grads[0].contiguous();
    Tensor dx_RD, dw_EFD;
    if (ctx->needs_input_grad(0)) dx_RD = at::empty_like(x_RD);
    if (ctx->needs_input_grad(1)) dw_EFD = at::zeros_like(w_EFD);
    for_each_group(rows_E, [&](int64_t e, int64_t begin, int64_t rows) {
      const Tensor dy = dy_RF.narrow(0, begin, rows);
      if (dx_RD.defined()) {
        Tensor out = dx_RD.narrow(0, begin, rows);
        at::mm_out(out, dy, w_EFD[e]);
      }
      if (dw_EFD.defined()) {
        Tensor out = dw_EFD[e];
        at::mm_out(out, dy.t(), x_RD.narrow(0, begin, rows));
      }
    });
    return {dx_RD, dw_EFD, Tensor()};
  }
};

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
  return LoopedMatmul::apply(x, w_EFD.dim() == 2 ? w_EFD.unsqueeze(0) : w_EFD, rows_E);
}

}  // namespace switchyard
