#include "ops/swiglu_experts.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ops/blocked_gemm.h"
#include "ops/blocked_rows.h"
#include "ops/vector_math.h"

// R rows, E experts on this rank, D model width, F inner width.

namespace switchyard {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kHalf = kPanelColumns / 2;  // a panel holds as many gate as up columns

/// One row of a block: what is kept for backward, and the activation.
template <class scalar_t>
void activate(const float* gate, const float* up, int64_t count, scalar_t* kept_gate,
              scalar_t* kept_up, scalar_t* active) {
#pragma omp simd
  for (int64_t c = 0; c < count; ++c) {
    store_rounded(kept_gate + c, gate[c]);
    store_rounded(kept_up + c, up[c]);
    store_rounded(active + c, gate[c] * fast_sigmoid(gate[c]) * up[c]);
  }
}

/// One row of a block: the gradients of gate and up from that of the activation, which is made
/// anew.
template <class scalar_t>
void activate_backward(const float* dactive, const scalar_t* gate, const scalar_t* up,
                       int64_t count, scalar_t* dgate, scalar_t* dup, scalar_t* active) {
#pragma omp simd
  for (int64_t c = 0; c < count; ++c) {
    const float g = static_cast<float>(gate[c]), u = static_cast<float>(up[c]);
    const float sigmoid = fast_sigmoid(g), silu = g * sigmoid;
    store_rounded(dgate + c, dactive[c] * u * (sigmoid + silu * (1.0F - sigmoid)));
    store_rounded(dup + c, dactive[c] * silu);
    store_rounded(active + c, silu * u);
  }
}

/// h = [gate | up] = x @ in^T and a = silu(gate) * up, from the float32 sums.
template <class scalar_t>
void inner_rows(const Tensor& x_RD, const Tensor& in_E2FD, const std::vector<int64_t>& rows_E,
                Tensor& h_R2F, Tensor& a_RF) {
  const int64_t F = a_RF.size(1);
  const auto pack = [&](Panel<scalar_t>& panel, int64_t e, int64_t p) {
    const auto in = matrix_of<scalar_t>(in_E2FD, e);
    const int64_t first = p * kHalf, count = std::min(kHalf, F - first);
    panel.reshape(in.columns, 2 * count);
    panel.pack_transposed(in.rows_from(first, count));
    panel.pack_transposed(in.rows_from(F + first, count), count);
  };
  scalar_t *h = h_R2F.data_ptr<scalar_t>(), *a = a_RF.data_ptr<scalar_t>();
  const auto store = [&](const Tile& tile) {
    const int64_t count = tile.columns / 2, first = tile.panel * kHalf;
    for (int64_t r = 0; r < tile.rows; ++r) {
      scalar_t* kept = h + (tile.row + r) * 2 * F + first;
      activate(tile.at(r), tile.at(r) + count, count, kept, kept + F,
               a + (tile.row + r) * F + first);
    }
  };
  for_each_tile(matrix_ref<scalar_t>(x_RD), rows_E, (F + kHalf - 1) / kHalf, pack, store);
}

/// From dy: dh and, anew, a.
template <class scalar_t>
void inner_gradients(const Tensor& dy_RD, const Tensor& down_EDF,
                     const std::vector<int64_t>& rows_E, const Tensor& h_R2F, Tensor& dh_R2F,
                     Tensor& a_RF) {
  const int64_t F = a_RF.size(1);
  const auto pack = [&](Panel<scalar_t>& panel, int64_t e, int64_t p) {
    const auto down = matrix_of<scalar_t>(down_EDF, e);
    const int64_t first = p * kPanelColumns, count = std::min(kPanelColumns, F - first);
    panel.reshape(down.rows, count);
    panel.pack(down.columns_from(first, count));
  };
  const scalar_t* h = h_R2F.data_ptr<scalar_t>();
  scalar_t *dh = dh_R2F.data_ptr<scalar_t>(), *a = a_RF.data_ptr<scalar_t>();
  const auto store = [&](const Tile& tile) {
    const int64_t first = tile.panel * kPanelColumns;
    for (int64_t r = 0; r < tile.rows; ++r) {
      const int64_t at = (tile.row + r) * 2 * F + first;
      activate_backward(tile.at(r), h + at, h + at + F, tile.columns, dh + at, dh + at + F,
                        a + (tile.row + r) * F + first);
    }
  };
  for_each_tile(matrix_ref<scalar_t>(dy_RD), rows_E, panels_of(F), pack, store);
}

class SwiGluExperts : public torch::autograd::Function<SwiGluExperts> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x_RD, const Tensor& in_E2FD,
                        const Tensor& down_EDF, const std::vector<int64_t>& rows_E, Inner inner) {
    Tensor h_R2F, a_RF;
    make_inner(x_RD, in_E2FD, rows_E, h_R2F, a_RF);
    if (inner == Inner::kMadeAgain) h_R2F.reset();
    ctx->save_for_backward({x_RD, in_E2FD, down_EDF, h_R2F});
    ctx->saved_data["rows"] = rows_E;
    return rows_times_transposed(a_RF, down_EDF, rows_E);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x_RD = saved[0], &in_E2FD = saved[1], &down_EDF = saved[2];
    Tensor h_R2F = saved[3], a_RF;
    const std::vector<int64_t> rows_E = ctx->saved_data["rows"].toIntVector();
    const Tensor dy_RD = grads[0].contiguous();
    Tensor dh_R2F;
    if (h_R2F.defined()) {
      a_RF = at::empty({x_RD.size(0), down_EDF.size(-1)}, x_RD.options());
      dh_R2F = at::empty_like(h_R2F);
    } else {
      make_inner(x_RD, in_E2FD, rows_E, h_R2F, a_RF);
      dh_R2F = h_R2F;  // in its place: element by element, and nobody else's
    }
    dispatch_blocked(x_RD.scalar_type(), [&](auto zero) {
      inner_gradients<decltype(zero)>(dy_RD, down_EDF, rows_E, h_R2F, dh_R2F, a_RF);
    });
    Tensor dx_RD, din_E2FD, ddown_EDF;
    if (ctx->needs_input_grad(2)) ddown_EDF = add_weight_gradient(dy_RD, a_RF, down_EDF, rows_E);
    if (ctx->needs_input_grad(1)) din_E2FD = add_weight_gradient(dh_R2F, x_RD, in_E2FD, rows_E);
    if (ctx->needs_input_grad(0)) dx_RD = rows_times(dh_R2F, in_E2FD, rows_E);
    return {dx_RD, din_E2FD, ddown_EDF, Tensor(), Tensor()};
  }

 private:
  /// Both tensors with their memory.
  static void make_inner(const Tensor& x_RD, const Tensor& in_E2FD,
                         const std::vector<int64_t>& rows_E, Tensor& h_R2F, Tensor& a_RF) {
    const int64_t R = x_RD.size(0), F = in_E2FD.size(-2) / 2;
    h_R2F = at::empty({R, 2 * F}, x_RD.options());
    a_RF = at::empty({R, F}, x_RD.options());
    dispatch_blocked(x_RD.scalar_type(), [&](auto zero) {
      inner_rows<decltype(zero)>(x_RD, in_E2FD, rows_E, h_R2F, a_RF);
    });
  }
};

}  // namespace

bool fits_swiglu_experts(const Tensor& x_RD, const Tensor& in_E2FD, const Tensor& down_EDF) {
  return fits_blocked_rows(x_RD, in_E2FD) && fits_blocked_rows(x_RD, down_EDF);
}

Tensor swiglu_experts(const Tensor& x_RD, const Tensor& in_E2FD, const Tensor& down_EDF,
                      const std::vector<int64_t>& rows_E, Inner inner) {
  TORCH_CHECK(x_RD.dim() == 2 && in_E2FD.dim() == down_EDF.dim() &&
                  in_E2FD.numel() / (in_E2FD.size(-2) * in_E2FD.size(-1)) ==
                      static_cast<int64_t>(rows_E.size()) &&
                  in_E2FD.size(-1) == x_RD.size(1) && down_EDF.size(-2) == x_RD.size(1) &&
                  in_E2FD.size(-2) == 2 * down_EDF.size(-1),
              "swiglu_experts: x_RD ", x_RD.sizes(), ", in_E2FD ", in_E2FD.sizes(), ", down_EDF ",
              down_EDF.sizes());
  return SwiGluExperts::apply(x_RD, in_E2FD, down_EDF, rows_E, inner);
}

}  // namespace switchyard
