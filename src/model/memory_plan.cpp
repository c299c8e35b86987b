#include "model/memory_plan.h"

namespace switchyard {

ParameterBytes planned_bytes(const ModelSize& size, const ParallelConfig& parallel,
                             int64_t zero_stage, at::ScalarType compute, int64_t world_size) {
  const bool fp32 = compute == at::kFloat;
  const int64_t w = fp32 ? 4 : 2, k = fp32 ? 8 : 12;
  const int64_t local = size.dense_parameters + size.expert_parameters / parallel.expert;
  const int64_t share = (size.total_parameters() + world_size - 1) / world_size;
  return {w * local, 4 * (zero_stage < 2 ? local : share), k * (zero_stage < 1 ? local : share)};
}

}  // namespace switchyard
