#include "moe/routers/sparse_transport.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

// T tokens, E experts; R columns (rows) with a limit, of N entries each.

namespace switchyard {
namespace {

using at::Tensor;

constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kAdamEps = 1e-8;

/// The transport with the limited side's lines as rows.
struct Problem {
  Tensor similarity_RN;
  double row_sum, column_sum;
};

Tensor plan_at(const Problem& problem, const Tensor& potential_N, const TransportOptions& options) {
  const Tensor x_RN = (problem.similarity_RN + potential_N) / (options.gamma * problem.row_sum);
  return problem.row_sum * sparse_simplex(x_RN, options.nonzeros);
}

Tensor potentials(const Problem& problem, const TransportOptions& options) {
  const at::NoGradGuard no_grad;
  Tensor potential_N = at::zeros({problem.similarity_RN.size(1)}, problem.similarity_RN.options());
  Tensor mean_N = at::zeros_like(potential_N), square_N = at::zeros_like(potential_N);
  for (int64_t step = 1; step <= options.iterations; ++step) {
    const Tensor gradient_N =
        plan_at(problem, potential_N, options).sum(/*dim=*/0) - problem.column_sum;
    mean_N = kBeta1 * mean_N + (1 - kBeta1) * gradient_N;
    square_N = kBeta2 * square_N + (1 - kBeta2) * gradient_N.square();
    const auto n = static_cast<double>(step);
    const Tensor size_N = (square_N / (1 - std::pow(kBeta2, n))).sqrt() + kAdamEps;
    potential_N = potential_N - options.lr / (1 - std::pow(kBeta1, n)) * mean_N / size_N;
  }
  return potential_N;
}

}  // namespace

Tensor sparse_simplex(const Tensor& x_RN, int64_t k) {
  TORCH_CHECK(x_RN.dim() == 2 && k >= 1 && k <= x_RN.size(1), "sparse_simplex: ", k, " of ",
              x_RN.sizes());
  const auto [sorted_RN, ids_RN] =
      at::sort(x_RN.detach(), /*stable=*/true, /*dim=*/1, /*descending=*/true);
  const Tensor sorted_Rk = sorted_RN.narrow(1, 0, k), ids_Rk = ids_RN.narrow(1, 0, k);
  const Tensor rank_k = at::arange(1, k + 1, x_RN.options().requires_grad(false));
  const Tensor inside_Rk = sorted_Rk * rank_k + 1 - sorted_Rk.cumsum(/*dim=*/1) > 0;
  const Tensor support_RN =
      at::zeros(x_RN.sizes(), x_RN.options().dtype(at::kBool)).scatter_(1, ids_Rk, inside_Rk);
  const Tensor size_R1 = inside_Rk.sum(/*dim=*/1, /*keepdim=*/true);
  const Tensor zero = at::zeros({}, x_RN.options().requires_grad(false));
  const Tensor sum_R1 = at::where(support_RN, x_RN, zero).sum(/*dim=*/1, /*keepdim=*/true);
  return at::where(support_RN, x_RN - (sum_R1 - 1) / size_R1, zero).clamp_min(0);
}

Tensor sparse_transport(const Tensor& similarity_TE, const TransportOptions& options) {
  const auto T = static_cast<double>(similarity_TE.size(0)),
             E = static_cast<double>(similarity_TE.size(1));
  const bool by_expert = options.limit == TransportLimit::kExpert;
  const Tensor wide_TE = similarity_TE.to(at::kDouble);
  const Problem problem = by_expert ? Problem{wide_TE.t(), T / E, 1} : Problem{wide_TE, 1, T / E};
  const Tensor potential_N = potentials(problem, options);
  const Tensor plan_RN = plan_at(problem, potential_N, options);
  return (by_expert ? plan_RN.t() : plan_RN).to(similarity_TE.scalar_type());
}

}  // namespace switchyard
