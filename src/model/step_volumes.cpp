#include "model/step_volumes.h"

#include <algorithm>

#include "config/load_config.h"
#include "model/model_size.h"

namespace switchyard {
namespace {

int64_t element_bytes(at::ScalarType compute) { return compute == at::kFloat ? 4 : 2; }

/// Bytes that a rank sends so that each of G ranks has the sum, or all, of its piece.
int64_t ring_bytes(int64_t elements, int64_t ranks, int64_t bytes) {
  return (elements + ranks - 1) / ranks * (ranks - 1) * bytes;
}

}  // namespace

bool counts_first(const RunConfig& config, int64_t batches) {
  return batches > 1 && std::ranges::any_of(config.moe.balance, [](const BalanceConfig& entry) {
           return entry.scope == "global";
         });
}

int64_t micro_batches(const RunConfig& config, int64_t world_size) {
  return config.train.global_batch_size / (world_size * config.train.micro_batch_size);
}

StepVolumes exchange_volumes(const RunConfig& config, at::ScalarType compute, int64_t leaving) {
  const int64_t bytes = leaving * config.model.hidden_size * element_bytes(compute);
  StepVolumes volumes;
  volumes.dispatch_forward = volumes.combine_forward = bytes;
  const bool again = config.train.recompute == "layer";  // rows, before their gradients
  volumes.dispatch_backward = volumes.combine_backward = again ? 2 * bytes : bytes;
  return volumes;
}

StepVolumes planned_volumes(const RunConfig& config, at::ScalarType compute, int64_t world_size,
                            RoutingCase routing) {
  const int64_t EP = config.parallel.expert, EDP = world_size / EP, stage = config.zero.stage,
                batches = micro_batches(config, world_size);
  const auto layers =
      static_cast<int64_t>(moe_layer_indices(config.moe, config.model.num_hidden_layers).size());
  // Balanced, a rank sends what it gets; one that gets all copies has the others' to itself.
  const int64_t arrived = routed_rows(config, routing).arrived;
  StepVolumes volumes =
      exchange_volumes(config, compute, layers * batches * (arrived * (EP - 1) / EP));
  if (counts_first(config, batches)) {
    volumes.dispatch_forward *= 2;
    volumes.combine_forward *= 2;
  }
  const ModelSize size = model_size(config.model, config.moe, config.data.sequence_length);
  const int64_t dense = size.dense_parameters, expert = size.expert_parameters / EP;
  const int64_t sums = stage == 0 ? 2 : stage == 1 ? 1 : batches;
  volumes.reduction = sums * (ring_bytes(dense, world_size, 4) + ring_bytes(expert, EDP, 4));
  if (stage > 0) {
    volumes.gather = ring_bytes(dense, world_size, element_bytes(compute)) +
                     ring_bytes(expert, EDP, element_bytes(compute));
  }
  return volumes;
}

}  // namespace switchyard
