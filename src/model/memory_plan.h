#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "config/run_config.h"
#include "model/model_size.h"
#include "optim/parameter_store.h"

namespace switchyard {

/// The formula of optim/parameter_store.h for the model of a config, under its layout:
/// bytes that each rank of a world of `world_size` holds, the padding of partitions left
/// out. The world is a multiple of EP, and the experts are one of EP.
ParameterBytes planned_bytes(const ModelSize& size, const ParallelConfig& parallel,
                             int64_t zero_stage, at::ScalarType compute, int64_t world_size);

}  // namespace switchyard
