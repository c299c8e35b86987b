#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace switchyard {

// N tokens, E experts.

/// Each expert's `capacity` best tokens; equal scores go to the earlier token.
///
///   scores_NE  (N, E) float32 or float64; 1 <= capacity <= N
///
/// Returns (N, E) bool with `capacity` true in every column.
at::Tensor best_tokens(const at::Tensor& scores_NE, int64_t capacity);

/// The linear program of Expert Choice (arXiv:2202.09368 section 3.3), with entropy:
///
///   max  <S, A> + lambda H(A)     H(A) = - sum A log A
///   s.t. sum_t A_te = k,  sum_e A_te <= b,  0 <= A <= 1
///
/// by Dykstra's algorithm on the two sets {sum_t A_te = k, A <= 1} and {sum_e A_te
/// <= b}, in the logarithmic domain. Both projections are exact, so each iteration
/// is a step of block coordinate ascent on the dual. The paper alternates the same
/// constraints at lambda = 1e-3 from the start; here lambda falls to it from 1 over
/// the first 70 % of the iterations, without which a hundred do not come near.
struct CapOptions {
  double lambda = 1e-3;
  int64_t iterations = 100;
};

/// A (N, E) float64 of scores_NE (N, E), for 1 <= k < N, 1 <= b and k E <= b N.
at::Tensor capped_plan(const at::Tensor& scores_NE, int64_t per_expert, int64_t per_token,
                       const CapOptions& options = {});

/// A choice that obeys both limits: no token is taken by more than `per_token`
/// experts, and no expert takes more than `capacity` tokens; every expert takes as
/// many, unless that is more than the tokens can bear: then every token is taken
/// `per_token` times, and A is that of the program with the two sides exchanged (the
/// paper's has no solution).
///
/// Pairs are taken from the largest A down. (The paper takes each expert's `capacity`
/// largest, which can break the cap where A is not integral.) An expert that is left
/// short gets a token for which another takes a free one, at the least loss in A.
/// Ties go to the lower expert, then to the earlier token.
/// Within 0.5 % of the best sum of scores where experts can be full, and 5 % where they
/// cannot (random cases against scipy's linear programs).
///
///   scores_NE  (N, E), what is not finite counts as 0; 1 <= capacity <= N
///
/// Returns (N, E) bool. Without a binding cap (per_token >= E) it is best_tokens.
at::Tensor capped_choice(const at::Tensor& scores_NE, int64_t capacity, int64_t per_token,
                         const CapOptions& options = {});

}  // namespace switchyard
