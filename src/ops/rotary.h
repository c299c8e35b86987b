#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// Cosines and sines of the rotary embedding (Su et al., arXiv:2104.09864 eq. 34)
/// for positions [first, first + count): each (count, head_dim / 2) float32,
/// angle = position * theta^(-2 i / head_dim).
struct RotaryTable {
  at::Tensor cos_SH, sin_SH;
};
RotaryTable rotary_table(int64_t first, int64_t count, int64_t head_dim, double theta);

/// Rotates pairs (i, i + head_dim / 2), the half-split layout of Llama in
/// Hugging Face:
///
///   x_BSNH  (B, S, heads, head_dim), any compute dtype; the table has S rows
///
/// Products in float32. Differentiable in x (backward rotates the other way). Local.
at::Tensor apply_rotary(const at::Tensor& x_BSNH, const RotaryTable& table);

}  // namespace switchyard
