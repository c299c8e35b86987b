#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace switchyard {

/// Dropout (Srivastava et al., 2014) with counter-based masks: element (s, d) of
/// a sequence is kept, and divided by 1 - rate, when the draw keyed by (seed,
/// purpose, the sequence's index in the run's order, s, d) is not below `rate`. No
/// state, the same on any layout, repeatable.
///
///   x_BSD    (B, S, D) any compute dtype
///   order_B  (B) int64
///
/// Differentiable in x. Local.
at::Tensor counter_dropout(const at::Tensor& x_BSD, double rate, uint64_t seed,
                           const std::string& purpose, const at::Tensor& order_B);

/// The same for rows that know who they are: element f of a row is keyed by (seed,
/// purpose, the row's id, f), wherever the row has travelled. A negative id is a
/// row of padding and stays as it is.
///
///   x_RF   (R, F) any compute dtype
///   ids_R  (R) int64
///
/// Differentiable in x. Local.
at::Tensor row_dropout(const at::Tensor& x_RF, double rate, uint64_t seed,
                       const std::string& purpose, const at::Tensor& ids_R);

}  // namespace switchyard
