#pragma once

#include <ATen/core/Tensor.h>

#include "config/run_config.h"

namespace switchyard {

/// Angles per position of the rotary embedding (Su et al., arXiv:2104.09864 section
/// 3.2.2), R / 2 of them in float64, where R = head_dim * partial_rotary_factor are
/// rotated: theta^(-2 i / R), stretched by `rope_scaling`: `linear` divides them by the
/// factor, `llama3` only the slow ones, with a smooth step between (Llama 3.1).
at::Tensor rotary_frequencies(const ModelConfig& model);

/// Cosines and sines for positions [first, first + count): each (count, R / 2) float32, on the
/// device of the frequencies (float64).
struct RotaryTable {
  at::Tensor cos_SH, sin_SH;
};
RotaryTable rotary_table(int64_t first, int64_t count, const at::Tensor& frequencies_H);

/// Rotates pairs (i, i + R / 2) of each head, the half-split layout of Llama in Hugging
/// Face, and leaves what is behind the first R numbers as it is:
///
///   x_BSNH  (B, S, heads, head_dim), any compute dtype; the table has S rows
///
/// Products in float32. Differentiable in x (backward rotates the other way). Local.
at::Tensor apply_rotary(const at::Tensor& x_BSNH, const RotaryTable& table);

}  // namespace switchyard
