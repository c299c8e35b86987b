#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace switchyard {

// Matrix products by LibTorch's own, for tensors of any device, without autograd; sums are float32
// (float64 of float64). What blocked_rows.h is for the host.

/// How the products of groups of rows are made: by at::_grouped_mm, one kernel for all groups; or
/// group by group, of every dtype.
enum class Products { kGrouped, kLooped };

/// The one for rows x (R, M) and weights (E, ...) of the same dtype: the only place that chooses.
Products products_for(const at::Tensor& x_RM, const at::Tensor& w);

/// y[r] = x[r] @ w[e(r)]: rows sorted by group, rows_E of each.
///
///   x_RM (R, M) contiguous;  w_EMN (E, M, N), its matrices contiguous or transposed
///   Returns (R, N), contiguous.
at::Tensor rows_times_groups(const at::Tensor& x_RM, const at::Tensor& w_EMN,
                             const std::vector<int64_t>& rows_E, Products products);

/// sum_e += a_e^T @ b_e for the rows of each group: (R, M), (R, N) -> (E, M, N) in float32, without
/// a rounding between (which is why it goes group by group: at::_grouped_mm would round).
void add_group_products(const at::Tensor& a_RM, const at::Tensor& b_RN,
                        const std::vector<int64_t>& rows_E, const at::Tensor& sum_EMN);

/// sum += a @ b, in sum's dtype.
void add_product(const at::Tensor& a, const at::Tensor& b, const at::Tensor& sum);

/// a @ b in `dtype`, float32 of bfloat16 factors not rounded.
at::Tensor product(const at::Tensor& a, const at::Tensor& b, at::ScalarType dtype);

}  // namespace switchyard
