#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace switchyard {

// T tokens, K experts per token, D model width, S token copies that are sent.

/// Where each kept (token, choice) pair stands in the send buffer, and back.
struct RowMap {
  at::Tensor pair_S;   // (S) int64: t * K + k of the pair in row s, or -1: a row of padding
  at::Tensor slot_TK;  // (T, K) int64: the row of pair (t, k), or -1 when dropped
};

/// Copies the rows of tokens to their places in the send buffer:
/// out[s] = x[pair[s] / K], zero for padding. Backward sums a token's copies over k in ascending
/// order (a gather, never atomics: bitwise repeatable). Local.
at::Tensor gather_tokens(const at::Tensor& x_TD, const RowMap& map);

/// The weighted sum of a token's expert outputs, in ascending k:
///   out[t] = sum_k weights[t, k] * y[slot[t, k]]      a dropped pair adds nothing
///
///   y_SD        (S, D) float32, bfloat16 or float64
///   weights_TK  (T, K) float32 (float64 with float64 y)
///   value_scale_TK  (T, K) of weights' dtype: multiplies the weights in the value alone;
///               the gradient is that without it. Undefined: 1
///
/// Sums in float32 and returns y's dtype. Differentiable in y and weights. Local.
at::Tensor combine_tokens(const at::Tensor& y_SD, const at::Tensor& weights_TK, const RowMap& map,
                          const at::Tensor& value_scale_TK = {});

}  // namespace switchyard
