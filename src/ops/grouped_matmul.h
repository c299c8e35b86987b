#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace switchyard {

/// One matrix product per expert over rows that are sorted by expert:
///
///   y[r] = w[e(r)] @ x[r]      for the rows r of expert e
///
///   x_RD    (R, D) rows, expert 0's first. float32, bfloat16 or float64
///   w_EFD   (E, F, D) one [out, in] weight per expert, or (F, D) for one alone, same dtype
///   rows_E  rows of each expert, sum R; zeros allowed
///
/// Returns (R, F). Differentiable in x and w; an expert without rows has a
/// defined zero gradient, and w stays in the graph when R is 0. Block by block where
/// blocked_rows.h takes them, else by device_products.h; the gradient of w in place
/// (weight_gradient.h). Local: no
/// communication. Throws c10::Error on a shape that does not fit.
at::Tensor grouped_matmul(const at::Tensor& x_RD, const at::Tensor& w_EFD,
                          const std::vector<int64_t>& rows_E);

}  // namespace switchyard
