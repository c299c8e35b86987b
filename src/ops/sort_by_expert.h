#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "ops/permute.h"

namespace switchyard {

// T tokens, K experts per token, E experts, S kept pairs.

/// The (token, choice) pairs of a layer in the order in which they are sent. How many are kept is
/// not known to the host before it has rows_E.
struct SortedPairs {
  at::Tensor order;    // (T * K) int64: the kept pairs t * K + k by expert, then the dropped ones
  at::Tensor slot_TK;  // (T, K) int64: the place of pair (t, k) in `order`, or -1 when dropped
  at::Tensor rows_E;   // (E) int64: kept pairs of each expert

  /// Of the first `rows` places, the sum of rows_E.
  RowMap map(int64_t rows) const;
};

/// Stable counting sort of the kept pairs by expert: token order within an expert. All on the
/// device of the inputs, and without a wait of the host for it.
///
///   experts_TK  (T, K) int64 in [0, E)
///   kept_TK     (T, K) bool
///
/// Local. Repeatable to the bit.
SortedPairs sort_by_expert(const at::Tensor& experts_TK, const at::Tensor& kept_TK,
                           int64_t num_experts);

}  // namespace switchyard
