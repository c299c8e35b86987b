#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace switchyard {

/// Whether what is before the activation is there until backward, or computed again by it.
enum class Inner { kKept, kMadeAgain };

/// The SwiGLU networks of a layer's experts (Shazeer, arXiv:2002.05202 eq. 6) over rows that are
/// sorted by expert, in one pass: silu(gate) * up is taken from each block of the first product
/// while it is in the cache, in backward likewise.
///
///   x_RD      (R, D) rows, expert 0's first, float32 or bfloat16
///   in_E2FD   (E, 2F, D): gate rows, then up rows; same dtype
///   down_EDF  (E, D, F)
///   rows_E    rows of each expert, sum R; zeros allowed
///
/// A dense network is one expert: (2F, D) and (D, F). Returns (R, D), what grouped_matmul and
/// ffn_activation give but for one rounding less in bfloat16. Differentiable in all three; keeps x
/// for backward and, as `inner` says, the (R, 2F) before the activation: gradients are the same to
/// the bit. Local.
at::Tensor swiglu_experts(const at::Tensor& x_RD, const at::Tensor& in_E2FD,
                          const at::Tensor& down_EDF, const std::vector<int64_t>& rows_E,
                          Inner inner = Inner::kKept);

/// Rows of a thread that go through all products before the next do: [gate, up] and its gradient of
/// so many stay in a core's second cache at the widths of small models. In each such wave an
/// expert's weights are packed anew. A multiple of kInnerRows (blocked_gemm.h), so that no weight
/// gradient depends on it.
inline constexpr int64_t kSwiGluWaveRows = 512;

/// The same for all threads of this process. So many rows of scratch are there in backward, and up
/// to half as many more where one expert's rows are not cut (waves.h).
int64_t swiglu_wave_rows();

/// Whether these can be computed so: otherwise the caller composes them.
bool fits_swiglu_experts(const at::Tensor& x_RD, const at::Tensor& in_E2FD,
                         const at::Tensor& down_EDF);

}  // namespace switchyard
