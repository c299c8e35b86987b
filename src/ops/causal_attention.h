#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "ops/rotary.h"

namespace switchyard {

/// Queries and keys of a block of scores: a block is computed where any of its keys is visible.
inline constexpr int64_t kQueryBlock = 64, kKeyBlock = 64;

/// What a query may look at.
enum class Visible { kAll, kPast };

/// N query heads of width H; each of the M key-value heads serves N / M of them.
struct HeadShape {
  int64_t query = 1, key_value = 1, width = 1;
};

/// Rotary embedding and causal attention of whole sequences, block by block with a running
/// softmax (Dao et al., arXiv:2205.14135, algorithms 1 and 4): neither the turned queries and
/// keys nor any S x S matrix is written to memory.
///
///   qkv_BSX  (B, S, (N + 2 M) H): queries, keys, values, as their projection gives them,
///            float32 or bfloat16
///   table    of positions 0 to S - 1
///
/// Returns (B, S, N H): softmax(q k^T / sqrt(H)) v, the softmax in float32. Differentiable in
/// qkv; keeps qkv, the result and one float32 per query for backward. Local.
at::Tensor causal_attention(const at::Tensor& qkv_BSX, const RotaryTable& table,
                            const HeadShape& heads);

/// LibTorch's attention of heads: (B, N, S, H), and (B, M, S, H) for keys and values. `mask` is
/// bool, true where allowed; without one `visible` says. On a GPU one kernel, which gives the
/// same bits each time, forward and backward.
at::Tensor attention_of_heads(const at::Tensor& q_BNSH, const at::Tensor& k_BMSH,
                              const at::Tensor& v_BMSH, const at::Tensor& mask, Visible visible);

/// The same out of LibTorch's ops, for any device and dtype: apply_rotary, then its attention,
/// which on GPUs is one kernel. What causal_attention is where its tensors are not on the host.
at::Tensor composed_attention(const at::Tensor& qkv_BSX, const RotaryTable& table,
                              const HeadShape& heads);

/// Whether this can be computed so: otherwise the caller composes it.
bool fits_causal_attention(const at::Tensor& qkv_BSX, const HeadShape& heads);

}  // namespace switchyard
