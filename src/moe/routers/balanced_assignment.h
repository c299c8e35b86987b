#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

// T tokens, E experts.

/// Scores with everything that is not finite replaced by the smallest finite one (all
/// zero if there is none), so that an assignment exists.
at::Tensor finite_scores(const at::Tensor& scores_TE);

/// One expert for each token, so that loads are equal (floor(T / E) or ceil(T / E),
/// the larger ones where that scores best) and the sum of the scores is within T *
/// epsilon * (largest - smallest score) of the largest possible: the auction algorithm
/// with epsilon scaling (Bertsekas, "The auction algorithm for assignment and other
/// network flow problems"), for similar objects: an expert is a class of places that
/// share a price, the least bid among those that hold one.
///
///   scores_TE  (T, E) float32 or float64, NaN and infinities allowed (finite_scores)
///
/// Returns (T) int64. A pure function: a token bids for the lower of equal experts, and of
/// equal bids the earlier token's keeps its place. If all scores are equal, tokens are
/// dealt out in turn.
at::Tensor balanced_assignment(const at::Tensor& scores_TE, double epsilon);

}  // namespace switchyard
