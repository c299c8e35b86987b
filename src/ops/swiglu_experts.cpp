#include "ops/swiglu_experts.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <optional>

#include "ops/blocked_gemm.h"
#include "ops/blocked_rows.h"
#include "ops/vector_math.h"
#include "ops/waves.h"
#include "ops/weight_gradient.h"

// R rows, E experts on this rank, D model width, F inner width.

namespace switchyard {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kHalf = kPanelColumns / 2;  // a panel holds as many gate as up columns

static_assert(kSwiGluWaveRows % kInnerRows == 0);

/// Room for the rows of any wave, `columns` wide.
Tensor room_for(const std::vector<Wave>& waves, int64_t columns, const at::TensorOptions& options) {
  int64_t rows = 0;
  for (const Wave& wave : waves) rows = std::max(rows, wave.rows);
  const int64_t stride = row_stride(columns, static_cast<int64_t>(options.dtype().itemsize()));
  return at::empty({rows, stride}, options).narrow(1, 0, columns);
}

Tensor rows_of(const Tensor& x, const Wave& wave) { return x.narrow(0, wave.row, wave.rows); }

/// The matrices of a wave's groups: (E, M, N).
Tensor groups_of(const Tensor& w, const Wave& wave) {
  const Tensor w_EMN = w.dim() == 2 ? w.unsqueeze(0) : w;
  return w_EMN.narrow(0, wave.group, static_cast<int64_t>(wave.rows_E.size()));
}

/// One row of a block: what is kept for backward, and the activation.
template <class scalar_t>
void activate(const float* gate, const float* up, int64_t count, scalar_t* kept_gate,
              scalar_t* kept_up, scalar_t* active) {
  float product[kHalf];
#pragma omp simd
  for (int64_t c = 0; c < count; ++c) product[c] = gate[c] * fast_sigmoid(gate[c]) * up[c];
  round_row(gate, kept_gate, count);
  round_row(up, kept_up, count);
  round_row(product, active, count);
}

/// One row of a block: the gradients of gate and up from that of the activation, which is made
/// anew.
template <class scalar_t>
void activate_backward(const float* dactive, const scalar_t* gate, const scalar_t* up,
                       int64_t count, scalar_t* dgate, scalar_t* dup, scalar_t* active) {
  float by_gate[kPanelColumns], by_up[kPanelColumns], product[kPanelColumns];
#pragma omp simd
  for (int64_t c = 0; c < count; ++c) {
    const float g = static_cast<float>(gate[c]), u = static_cast<float>(up[c]);
    const float sigmoid = fast_sigmoid(g), silu = g * sigmoid;
    by_gate[c] = dactive[c] * u * (sigmoid + silu * (1.0F - sigmoid));
    by_up[c] = dactive[c] * silu;
    product[c] = silu * u;
  }
  round_row(by_gate, dgate, count);
  round_row(by_up, dup, count);
  round_row(product, active, count);
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
  const int64_t h_stride = h_R2F.stride(0), a_stride = a_RF.stride(0);
  const auto store = [&](const Tile& tile) {
    const int64_t count = tile.columns / 2, first = tile.panel * kHalf;
    for (int64_t r = 0; r < tile.rows; ++r) {
      scalar_t* kept = h + (tile.row + r) * h_stride + first;
      activate(tile.at(r), tile.at(r) + count, count, kept, kept + F,
               a + (tile.row + r) * a_stride + first);
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
  const int64_t h_stride = h_R2F.stride(0), dh_stride = dh_R2F.stride(0), a_stride = a_RF.stride(0);
  const auto store = [&](const Tile& tile) {
    const int64_t first = tile.panel * kPanelColumns;
    for (int64_t r = 0; r < tile.rows; ++r) {
      const int64_t row = tile.row + r;
      const scalar_t* kept = h + row * h_stride + first;
      scalar_t* gradient = dh + row * dh_stride + first;
      activate_backward(tile.at(r), kept, kept + F, tile.columns, gradient, gradient + F,
                        a + row * a_stride + first);
    }
  };
  for_each_tile(matrix_ref<scalar_t>(dy_RD), rows_E, panels_of(F), pack, store);
}

class SwiGluExperts : public torch::autograd::Function<SwiGluExperts> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x_RD, const Tensor& in_E2FD,
                        const Tensor& down_EDF, const std::vector<int64_t>& rows_E, Inner inner) {
    const int64_t R = x_RD.size(0), F = down_EDF.size(-1);
    const std::vector<Wave> all = waves_of(rows_E, swiglu_wave_rows());
    const bool keep = inner == Inner::kKept;
    const Tensor h_R2F = keep ? at::empty({R, 2 * F}, x_RD.options()) : Tensor();
    const Tensor h_room = keep ? Tensor() : room_for(all, 2 * F, x_RD.options());
    const Tensor a_room = room_for(all, F, x_RD.options());
    Tensor y_RD = at::empty_like(x_RD);
    for (const Wave& wave : all) {
      Tensor h = keep ? rows_of(h_R2F, wave) : h_room.narrow(0, 0, wave.rows);
      Tensor a = a_room.narrow(0, 0, wave.rows), y = rows_of(y_RD, wave);
      dispatch_blocked(x_RD.scalar_type(), [&](auto zero) {
        inner_rows<decltype(zero)>(rows_of(x_RD, wave), groups_of(in_E2FD, wave), wave.rows_E, h,
                                   a);
      });
      rows_times_transposed(a, groups_of(down_EDF, wave), wave.rows_E, y);
    }
    ctx->save_for_backward({x_RD, in_E2FD, down_EDF, h_R2F});
    ctx->saved_data["rows"] = rows_E;
    return y_RD;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x_RD = saved[0], &in_E2FD = saved[1], &down_EDF = saved[2], &h_R2F = saved[3];
    const std::vector<int64_t> rows_E = ctx->saved_data["rows"].toIntVector();
    const std::vector<Wave> all = waves_of(rows_E, swiglu_wave_rows());
    const int64_t F = down_EDF.size(-1);
    const Tensor dy_RD = grads[0].contiguous();
    const Tensor dh_room = room_for(all, 2 * F, x_RD.options());
    const Tensor a_room = room_for(all, F, x_RD.options());
    std::optional<WeightGradient> din, ddown;
    if (ctx->needs_input_grad(1)) din.emplace(in_E2FD);
    if (ctx->needs_input_grad(2)) ddown.emplace(down_EDF);
    Tensor dx_RD;
    if (ctx->needs_input_grad(0)) dx_RD = at::empty_like(x_RD);
    for (const Wave& wave : all) {
      const Tensor dy = rows_of(dy_RD, wave), x = rows_of(x_RD, wave);
      Tensor dh = dh_room.narrow(0, 0, wave.rows), a = a_room.narrow(0, 0, wave.rows);
      // What is made again gives way to its gradient, element by element.
      const bool kept = h_R2F.defined();
      Tensor h = kept ? rows_of(h_R2F, wave) : dh;
      dispatch_blocked(x_RD.scalar_type(), [&](auto zero) {
        if (!kept) {
          inner_rows<decltype(zero)>(x, groups_of(in_E2FD, wave), wave.rows_E, h, a);
        }
        inner_gradients<decltype(zero)>(dy, groups_of(down_EDF, wave), wave.rows_E, h, dh, a);
      });
      if (ddown) {
        Tensor sum = groups_of(ddown->sum(), wave);
        add_outer_products(dy, a, wave.rows_E, sum);
      }
      if (din) {
        Tensor sum = groups_of(din->sum(), wave);
        add_outer_products(dh, x, wave.rows_E, sum);
      }
      if (dx_RD.defined()) {
        Tensor dx = rows_of(dx_RD, wave);
        rows_times(dh, groups_of(in_E2FD, wave), wave.rows_E, dx);
      }
    }
    return {dx_RD, din ? din->for_autograd() : Tensor(), ddown ? ddown->for_autograd() : Tensor(),
            Tensor(), Tensor()};
  }
};

}  // namespace

int64_t swiglu_wave_rows() { return kSwiGluWaveRows * at::get_num_threads(); }

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
