#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "ops/blocked_gemm.h"
#include "ops/vector_math.h"

namespace switchyard {

// Rows (R, ...) sorted by group, rows_E of each, against one weight (F, D) per group. Without
// autograd; float32 or bfloat16, contiguous. Local.

/// Calls `body(scalar_t{})` for the dtypes that have blocked products.
template <class Body>
void dispatch_blocked(at::ScalarType dtype, const Body& body) {
  if (dtype == at::kFloat) return body(float{});
  body(at::BFloat16{});
}

inline int64_t panels_of(int64_t columns) { return (columns + kPanelColumns - 1) / kPanelColumns; }

/// Matrix e of a stack (E, rows, columns), or the one of a matrix.
template <class scalar_t>
MatrixRef<scalar_t> matrix_of(const at::Tensor& stack, int64_t e) {
  const MatrixRef<scalar_t> first = matrix_ref<scalar_t>(stack);
  return {first.row(e * first.rows), first.rows, first.columns, first.stride};
}

/// The store of for_each_tile that rounds tiles into rows of `stride` elements.
template <class scalar_t>
auto rounded_into(scalar_t* out, int64_t stride) {
  return [out, stride](const Tile& tile) {
    for (int64_t r = 0; r < tile.rows; ++r) {
      round_row(tile.at(r), out + (tile.row + r) * stride + tile.panel * kPanelColumns,
                tile.columns);
    }
  };
}

/// Whether the three products below take these: on the host, dtype, layout, and an even number of
/// columns in bfloat16.
bool fits_blocked_rows(const at::Tensor& x_RD, const at::Tensor& w_EFD);

/// y[r] = w[e(r)] @ x[r]: (R, D), (E, F, D) -> (R, F).
at::Tensor rows_times_transposed(const at::Tensor& x_RD, const at::Tensor& w_EFD,
                                 const std::vector<int64_t>& rows_E);
void rows_times_transposed(const at::Tensor& x_RD, const at::Tensor& w_EFD,
                           const std::vector<int64_t>& rows_E, at::Tensor& y_RF);

/// x[r] = w[e(r)]^T @ y[r]: (R, F), (E, F, D) -> (R, D).
at::Tensor rows_times(const at::Tensor& y_RF, const at::Tensor& w_EFD,
                      const std::vector<int64_t>& rows_E);
void rows_times(const at::Tensor& y_RF, const at::Tensor& w_EFD, const std::vector<int64_t>& rows_E,
                at::Tensor& x_RD);

/// sum_e += dy_e^T @ x_e: (R, F), (R, D) -> (E, F, D) float32.
void add_outer_products(const at::Tensor& dy_RF, const at::Tensor& x_RD,
                        const std::vector<int64_t>& rows_E, at::Tensor& sum_EFD);

/// Adds dy_e^T @ x_e to the gradient of w_e; returns what autograd gets (weight_gradient.h).
at::Tensor add_weight_gradient(const at::Tensor& dy_RF, const at::Tensor& x_RD,
                               const at::Tensor& w_EFD, const std::vector<int64_t>& rows_E);

}  // namespace switchyard
