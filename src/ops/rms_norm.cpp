#include "ops/rms_norm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>

#include "ops/composed.h"
#include "ops/cuda/kernels.h"
#include "ops/dispatch_dtype.h"
#include "ops/vector_math.h"

namespace switchyard {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kRowsPerTask = 32;
constexpr int64_t kRowsPerPiece =
    128;  // of the weight's gradient: sums that no thread count changes

template <class scalar_t>
void forward_rows(const Tensor& x_RD, const Tensor& weight, double eps, Tensor& y_RD,
                  Tensor& rstd_R) {
  using sum_t = accumulate_t<scalar_t>;
  const int64_t D = x_RD.size(1);
  const scalar_t *x = x_RD.data_ptr<scalar_t>(), *w = weight.data_ptr<scalar_t>();
  scalar_t* y = y_RD.data_ptr<scalar_t>();
  sum_t* rstd = rstd_R.data_ptr<sum_t>();
  at::parallel_for(0, x_RD.size(0), kRowsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const scalar_t* row = x + r * D;
      const sum_t squares = sum_of<sum_t>(
          D, [=](int64_t d) { return static_cast<sum_t>(row[d]) * static_cast<sum_t>(row[d]); });
      rstd[r] = 1 / std::sqrt(squares / D + static_cast<sum_t>(eps));
      const sum_t factor = rstd[r];
      scalar_t* row_y = y + r * D;
#pragma omp simd
      for (int64_t d = 0; d < D; ++d) {
        store_rounded(row_y + d, static_cast<sum_t>(row[d]) * factor * static_cast<sum_t>(w[d]));
      }
    }
  });
}

/// With n = x * rstd and g = dy * w:  dx = rstd * (g - n * mean(g * n)); the sum of dy * n over
/// each piece's rows.
template <class scalar_t>
void backward_rows(const Tensor& x_RD, const Tensor& weight, const Tensor& rstd_R,
                   const Tensor& dy_RD, Tensor& dx_RD, Tensor& dweight_PD) {
  using sum_t = accumulate_t<scalar_t>;
  const int64_t R = x_RD.size(0), D = x_RD.size(1);
  const scalar_t *x = x_RD.data_ptr<scalar_t>(), *w = weight.data_ptr<scalar_t>(),
                 *dy = dy_RD.data_ptr<scalar_t>();
  const sum_t* rstd = rstd_R.data_ptr<sum_t>();
  scalar_t* dx = dx_RD.data_ptr<scalar_t>();
  sum_t* dweight = dweight_PD.data_ptr<sum_t>();
  at::parallel_for(0, dweight_PD.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin * kRowsPerPiece; r < std::min(end * kRowsPerPiece, R); ++r) {
      const scalar_t *row = x + r * D, *row_dy = dy + r * D;
      scalar_t* row_dx = dx + r * D;
      sum_t* sums = dweight + r / kRowsPerPiece * D;
      const sum_t factor = rstd[r];
      const auto project = [=](int64_t d) {
        const sum_t contribution =
            static_cast<sum_t>(row_dy[d]) * static_cast<sum_t>(row[d]) * factor;
        sums[d] += contribution;
        return static_cast<sum_t>(w[d]) * contribution;
      };
      const sum_t dot = sum_of<sum_t>(D, project) / D;
#pragma omp simd
      for (int64_t d = 0; d < D; ++d) {
        const sum_t g = static_cast<sum_t>(row_dy[d]) * static_cast<sum_t>(w[d]);
        store_rounded(row_dx + d, factor * (g - static_cast<sum_t>(row[d]) * factor * dot));
      }
    }
  });
}

NormRows normalised(const Tensor& x_RD, const Tensor& weight, double eps) {
  if (cuda::has_kernels(x_RD)) return cuda::rms_norm(x_RD, weight, eps);
  if (!x_RD.is_cpu()) return composed::rms_norm(x_RD, weight, eps);
  const auto sum_dtype = x_RD.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  NormRows rows{at::empty_like(x_RD), at::empty({x_RD.size(0)}, x_RD.options().dtype(sum_dtype))};
  dispatch_dtype(x_RD.scalar_type(), [&](auto zero) {
    forward_rows<decltype(zero)>(x_RD, weight, eps, rows.y_RD, rows.rstd_R);
  });
  return rows;
}

NormGradients gradients(const Tensor& x_RD, const Tensor& weight, const Tensor& rstd_R,
                        const Tensor& dy_RD) {
  if (cuda::has_kernels(x_RD)) return cuda::rms_norm_gradients(x_RD, weight, rstd_R, dy_RD);
  if (!x_RD.is_cpu()) return composed::rms_norm_gradients(x_RD, weight, rstd_R, dy_RD);
  Tensor dx_RD = at::empty_like(x_RD);
  const int64_t pieces = (x_RD.size(0) + kRowsPerPiece - 1) / kRowsPerPiece;
  Tensor dweight_PD = at::zeros({pieces, x_RD.size(1)}, rstd_R.options());
  dispatch_dtype(x_RD.scalar_type(), [&](auto zero) {
    backward_rows<decltype(zero)>(x_RD, weight, rstd_R, dy_RD, dx_RD, dweight_PD);
  });
  return {dx_RD, dweight_PD.sum(0).to(weight.dtype())};
}

class RmsNorm : public torch::autograd::Function<RmsNorm> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, double eps) {
    const Tensor x_RD = x.contiguous().view({-1, weight.size(0)});
    const auto [y_RD, rstd_R] = normalised(x_RD, weight, eps);
    ctx->save_for_backward({x_RD, weight, rstd_R});
    return y_RD.view(x.sizes());
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x_RD = saved[0], &weight = saved[1], &rstd_R = saved[2];
    const Tensor dy_RD = grads[0].contiguous().view(x_RD.sizes());
    const auto [dx_RD, dweight] = gradients(x_RD, weight, rstd_R, dy_RD);
    return {dx_RD.view(grads[0].sizes()), dweight, Tensor()};
  }
};

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  TORCH_CHECK(weight.dim() == 1 && x.size(-1) == weight.size(0) && x.dtype() == weight.dtype(),
              "rms_norm: x ", x.sizes(), " ", x.dtype(), ", weight ", weight.sizes(), " ",
              weight.dtype());
  return RmsNorm::apply(x, weight, eps);
}

}  // namespace switchyard
