#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace switchyard {

// T tokens, E experts.

/// The nearest point of the simplex with at most k nonzeros, for each row: the
/// Euclidean projection of the row's k largest entries onto the simplex, zero
/// elsewhere. Among equal entries the earlier is kept.
///
///   x_RN  (R, N) float32 or float64; 1 <= k <= N
///
/// Returns (R, N), rows sum to 1. In the graph: the gradient is that of the
/// projection where the set of nonzeros does not change.
at::Tensor sparse_simplex(const at::Tensor& x_RN, int64_t k);

/// Whose nonzeros are limited.
enum class TransportLimit { kExpert, kToken };

struct TransportOptions {
  double gamma = 1.0;
  int64_t iterations = 20;  // of Adam (betas 0.9 and 0.999, eps 1e-8), from zero
  double lr = 0.01;
  TransportLimit limit = TransportLimit::kExpert;
  int64_t nonzeros = 1;  // at most, of an expert's column or a token's row
};

/// Sparsity-constrained optimal transport (arXiv:2209.15466):
///
///   T* = argmax <T, S> - gamma/2 |T|^2,  rows sum to 1, columns to T / E,
///        at most `nonzeros` nonzeros in each column (kExpert) or row (kToken)
///
/// by its semi-dual (section 3): the potentials p of the other side minimise
///
///   sum over limited columns (rows) c of max_{t in b simplex, nonzeros} <t, S_c + p>
///   - gamma/2 |t|^2,  less <p, a>
///
/// whose maximum is t = b sparse_simplex((S_c + p) / (gamma b)). So the limit and the
/// limited side's marginal b hold exactly after any number of iterations, and the
/// other side's marginal a in the limit, where the plan is unique.
///
///   similarity_TE  (T, E) float32 or float64
///
/// Returns (T, E) of the same dtype, computed in float64; in the graph with the
/// potentials held constant.
at::Tensor sparse_transport(const at::Tensor& similarity_TE, const TransportOptions& options);

}  // namespace switchyard
