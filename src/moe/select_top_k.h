#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace switchyard {

/// Ids of the k largest scores of each row, best first; equal scores go to the
/// lower id (at::topk promises no order among equals).
///
///   scores_TE  (T, E) float32 or float64, -inf allowed; k <= E
///
/// Returns (T, k) int64; never the same id twice in a row, whatever the scores.
at::Tensor select_top_k(const at::Tensor& scores_TE, int64_t k);

}  // namespace switchyard
