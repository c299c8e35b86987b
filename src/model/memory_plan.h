#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "config/run_config.h"
#include "model/model_size.h"
#include "optim/parameter_store.h"

namespace switchyard {

/// Bytes that each rank of a world of W holds for d dense and e expert parameters
/// under expert parallelism EP, the padding of partitions left out:
///
///              stage 0           stage 1           stage 2
///   weights    w (d + e/EP)      w (d + e/EP)      w (d + e/EP)
///   gradients  4 (d + e/EP)      4 (d + e/EP)      4 (d + e)/W
///   optimizer  k (d + e/EP)      k (d + e)/W       k (d + e)/W
///
/// with w, k = 2, 12 when computing in bfloat16 (float32 master and two moments)
/// and 4, 8 in float32. A share of W is rounded up to whole parameters. W is a
/// multiple of EP, and the experts are one of EP.
ParameterBytes planned_bytes(const ModelSize& size, const ParallelConfig& parallel,
                             int64_t zero_stage, at::ScalarType compute, int64_t world_size);

}  // namespace switchyard
