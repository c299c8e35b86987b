#include "model/memory_plan.h"

namespace switchyard {

ParameterBytes planned_bytes(const ModelSize& size, const ParallelConfig& parallel,
                             int64_t zero_stage, at::ScalarType compute, int64_t world_size) {
  return planned_bytes(size.dense_parameters, size.expert_parameters, compute,
                       {world_size, parallel.expert, static_cast<int>(zero_stage)});
}

}  // namespace switchyard
