#include "ops/blocked_rows.h"

#include <ATen/ATen.h>

#include "ops/weight_gradient.h"

namespace switchyard {
using at::Tensor;

bool fits_blocked_rows(const Tensor& x_RD, const Tensor& w_EFD) {
  const bool even = w_EFD.size(-1) % 2 == 0 && w_EFD.size(-2) % 2 == 0;
  return x_RD.is_cpu() && has_blocked_gemm(x_RD.scalar_type()) &&
         x_RD.scalar_type() == w_EFD.scalar_type() && x_RD.is_contiguous() &&
         w_EFD.is_contiguous() && (even || x_RD.scalar_type() == at::kFloat);
}

Tensor rows_times_transposed(const Tensor& x_RD, const Tensor& w_EFD,
                             const std::vector<int64_t>& rows_E) {
  Tensor y_RF = at::empty({x_RD.size(0), w_EFD.size(-2)}, x_RD.options());
  rows_times_transposed(x_RD, w_EFD, rows_E, y_RF);
  return y_RF;
}

void rows_times_transposed(const Tensor& x_RD, const Tensor& w_EFD,
                           const std::vector<int64_t>& rows_E, Tensor& y_RF) {
  const int64_t F = w_EFD.size(-2), D = w_EFD.size(-1);
  dispatch_blocked(x_RD.scalar_type(), [&](auto zero) {
    using scalar_t = decltype(zero);
    const auto pack = [&](Panel<scalar_t>& panel, int64_t e, int64_t p) {
      const int64_t first = p * kPanelColumns, count = std::min(kPanelColumns, F - first);
      panel.reshape(D, count);
      panel.pack_transposed(matrix_of<scalar_t>(w_EFD, e).rows_from(first, count));
    };
    for_each_tile(matrix_ref<scalar_t>(x_RD), rows_E, panels_of(F), pack,
                  rounded_into(y_RF.data_ptr<scalar_t>(), F));
  });
}

Tensor rows_times(const Tensor& y_RF, const Tensor& w_EFD, const std::vector<int64_t>& rows_E) {
  Tensor x_RD = at::empty({y_RF.size(0), w_EFD.size(-1)}, y_RF.options());
  rows_times(y_RF, w_EFD, rows_E, x_RD);
  return x_RD;
}

void rows_times(const Tensor& y_RF, const Tensor& w_EFD, const std::vector<int64_t>& rows_E,
                Tensor& x_RD) {
  const int64_t F = w_EFD.size(-2), D = w_EFD.size(-1);
  dispatch_blocked(y_RF.scalar_type(), [&](auto zero) {
    using scalar_t = decltype(zero);
    const auto pack = [&](Panel<scalar_t>& panel, int64_t e, int64_t p) {
      const int64_t first = p * kPanelColumns, count = std::min(kPanelColumns, D - first);
      panel.reshape(F, count);
      panel.pack(matrix_of<scalar_t>(w_EFD, e).columns_from(first, count));
    };
    for_each_tile(matrix_ref<scalar_t>(y_RF), rows_E, panels_of(D), pack,
                  rounded_into(x_RD.data_ptr<scalar_t>(), D));
  });
}

void add_outer_products(const Tensor& dy_RF, const Tensor& x_RD, const std::vector<int64_t>& rows_E,
                        Tensor& sum_EFD) {
  dispatch_blocked(x_RD.scalar_type(), [&](auto zero) {
    using scalar_t = decltype(zero);
    add_outer_products(matrix_ref<scalar_t>(dy_RF), matrix_ref<scalar_t>(x_RD), rows_E,
                       sum_EFD.data_ptr<float>());
  });
}

Tensor add_weight_gradient(const Tensor& dy_RF, const Tensor& x_RD, const Tensor& w_EFD,
                           const std::vector<int64_t>& rows_E) {
  const WeightGradient gradient(w_EFD);
  Tensor sum_EFD = gradient.sum();
  add_outer_products(dy_RF, x_RD, rows_E, sum_EFD);
  return gradient.for_autograd();
}

}  // namespace switchyard
