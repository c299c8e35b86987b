#include "moe/routers/sinkhorn_plan.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard {

using at::Tensor;

Tensor sinkhorn_plan(const Tensor& logits_TE, int64_t iterations) {
  const Tensor z_TE = logits_TE.detach();
  const int64_t T = z_TE.size(0), E = z_TE.size(1);
  if (T == 0) return z_TE.clone();
  const double log_share = std::log(static_cast<double>(T) / static_cast<double>(E));
  Tensor row_T1 = at::zeros({T, 1}, z_TE.options()), column_1E = at::zeros({1, E}, z_TE.options());
  for (int64_t i = 0; i < iterations; ++i) {
    column_1E = log_share - (z_TE + row_T1).logsumexp(/*dim=*/0, /*keepdim=*/true);
    row_T1 = -(z_TE + column_1E).logsumexp(/*dim=*/1, /*keepdim=*/true);
  }
  return (z_TE + row_T1 + column_1E).exp();
}

}  // namespace switchyard
