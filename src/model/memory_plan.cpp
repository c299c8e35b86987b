#include "model/memory_plan.h"

namespace switchyard {
namespace {

/// Open MPI's buffers while `elements` float32 gradients are summed over `ranks`: of an
/// all-reduce by a ring one or two pieces; of a reduce-scatter in parts (see
/// mpi_communicator.cpp) the part, its sum, and up to twice the part.
int64_t reduction_buffers(int64_t elements, int64_t ranks, int64_t zero_stage) {
  if (ranks == 1 || zero_stage >= 2) return 0;  // at stage 2 they are backward's
  const int64_t piece = elements / ranks;
  if (zero_stage == 0) return 4 * (ranks == 2 ? piece : 2 * piece);
  constexpr int64_t kPart = 1 << 20;
  const int64_t part = std::min(piece, kPart);
  return 4 * part * ((ranks == 2 ? 2 : 3) * ranks + 1);
}

/// Freed memory stays with the process (base/heap.h), and blocks of other sizes leave holes in
/// it: about half as much as was alive, up to 32 MiB, as runs were measured (docs/plan.md).
int64_t holes_between_blocks(int64_t transient) {
  constexpr int64_t kMost = int64_t{32} << 20;
  return std::min(transient / 2, kMost);
}

int64_t largest_tensor(const ModelConfig& model, const MoeConfig& moe) {
  const int64_t widest =
      std::max({model.vocab_size, model.intermediate_size, moe.expert_intermediate_size,
                model.num_attention_heads * model.head_dim});
  return 4 * widest * model.hidden_size;
}

}  // namespace

ParameterBytes planned_bytes(const ModelSize& size, const ParallelConfig& parallel,
                             int64_t zero_stage, at::ScalarType compute, int64_t world_size) {
  return planned_bytes(size.dense_parameters, size.expert_parameters, compute,
                       {world_size, parallel.expert, static_cast<int>(zero_stage)});
}

MemoryPlan plan_memory(const RunConfig& config, at::ScalarType compute, int64_t world_size) {
  const ModelSize size = model_size(config.model, config.moe, config.data.sequence_length);
  const int64_t EP = config.parallel.expert, stage = config.zero.stage;
  MemoryPlan plan;
  plan.parameters = planned_bytes(size, config.parallel, stage, compute, world_size);
  plan.balanced = planned_activations(config, compute, world_size, RoutingCase::kBalanced);
  plan.worst = planned_activations(config, compute, world_size, RoutingCase::kWorst);
  plan.reduction = std::max(reduction_buffers(size.dense_parameters, world_size, stage),
                            reduction_buffers(size.expert_parameters / EP, world_size / EP, stage));
  plan.start = largest_tensor(config.model, config.moe);
  const CheckpointConfig& checkpoint = config.checkpoint;
  const bool copies = checkpoint.async && checkpoint.interval > 0 &&
                      checkpoint.interval < config.train.steps;  // the last save makes no copy
  if (copies) plan.checkpoint = 12 * (size.total_parameters() + world_size - 1) / world_size;
  plan.allocator = holes_between_blocks(plan.transient());
  return plan;
}

MemoryPlan on_device(MemoryPlan plan) {
  plan.checkpoint = plan.allocator = plan.program = plan.reduction = 0;
  return plan;
}

}  // namespace switchyard
