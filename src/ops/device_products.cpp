#include "ops/device_products.h"

#include <ATen/ATen.h>

#include <numeric>

#include "ops/cuda/kernels.h"
#include "ops/host_copy.h"

namespace switchyard {
namespace {

using at::Tensor;

/// Calls `body(e, begin, rows)` for each group that has rows.
template <class Body>
void for_each_group(const std::vector<int64_t>& rows_E, const Body& body) {
  int64_t begin = 0;
  for (size_t e = 0; e < rows_E.size(); ++e) {
    if (rows_E[e] > 0) body(static_cast<int64_t>(e), begin, rows_E[e]);
    begin += rows_E[e];
  }
}

/// Where each group ends, as at::_grouped_mm wants it.
Tensor ends_of(const std::vector<int64_t>& rows_E, c10::Device device) {
  std::vector<int32_t> ends(rows_E.size());
  std::inclusive_scan(rows_E.begin(), rows_E.end(), ends.begin());
  return copy_to_device(at::tensor(ends, at::kInt), device);
}

/// Whether kernels that read 16 bytes at once take it.
bool is_aligned(const Tensor& x) {
  const auto address = reinterpret_cast<uintptr_t>(x.const_data_ptr());
  return x.is_contiguous() && address % 16 == 0 && x.size(-1) * x.element_size() % 16 == 0;
}

bool multiplies_to_float32(const Tensor& a) {
  return a.is_cuda() && a.scalar_type() == at::kBFloat16;
}

}  // namespace

Products products_for(const Tensor& x_RM, const Tensor& w) {
  const bool grouped = x_RM.is_cuda() && x_RM.scalar_type() == at::kBFloat16 && w.dim() == 3 &&
                       w.size(0) > 1 && is_aligned(x_RM) && is_aligned(w) &&
                       w.size(1) * w.element_size() % 16 == 0 && cuda::has_grouped_mm();
  return grouped ? Products::kGrouped : Products::kLooped;
}

Tensor rows_times_groups(const Tensor& x_RM, const Tensor& w_EMN,
                         const std::vector<int64_t>& rows_E, Products products) {
  if (products == Products::kGrouped && x_RM.size(0) > 0) {
    return at::_grouped_mm(x_RM, w_EMN, ends_of(rows_E, x_RM.device()));
  }
  const Tensor y_RN = at::empty({x_RM.size(0), w_EMN.size(2)}, x_RM.options());
  for_each_group(rows_E, [&](int64_t e, int64_t begin, int64_t rows) {
    Tensor out = y_RN.narrow(0, begin, rows);
    at::mm_out(out, x_RM.narrow(0, begin, rows), w_EMN[e]);
  });
  return y_RN;
}

void add_group_products(const Tensor& a_RM, const Tensor& b_RN, const std::vector<int64_t>& rows_E,
                        const Tensor& sum_EMN) {
  for_each_group(rows_E, [&](int64_t e, int64_t begin, int64_t rows) {
    add_product(a_RM.narrow(0, begin, rows).t(), b_RN.narrow(0, begin, rows), sum_EMN[e]);
  });
}

void add_product(const Tensor& a, const Tensor& b, const Tensor& sum) {
  if (multiplies_to_float32(a) && sum.scalar_type() == at::kFloat) {
    Tensor out = sum;
    at::addmm_out(out, sum, a, b, at::kFloat);
    return;
  }
  sum.addmm_(a.to(sum.scalar_type()), b.to(sum.scalar_type()));
}

Tensor product(const Tensor& a, const Tensor& b, at::ScalarType dtype) {
  if (a.scalar_type() == dtype) return at::mm(a, b);
  if (multiplies_to_float32(a) && dtype == at::kFloat) return at::mm(a, b, dtype);
  return at::mm(a.to(dtype), b.to(dtype));
}

}  // namespace switchyard
