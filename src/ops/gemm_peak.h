#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// The best rate of a few square matrix products on this rank's threads, or on its
/// GPU, in FLOP/s: what `mfu` is a share of. Where the processor does not multiply bfloat16, the
/// rate of float32 is bfloat16's (blocked_gemm.h). Takes about a fifth of a second. Local, but
/// ranks that share a host should measure at the same time, as they train.
double measure_gemm_peak(at::ScalarType dtype, c10::Device device = at::kCPU);

}  // namespace switchyard
