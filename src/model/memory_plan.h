#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>

#include "config/run_config.h"
#include "model/activation_plan.h"
#include "model/model_size.h"
#include "optim/parameter_store.h"

namespace switchyard {

/// The formula of optim/parameter_store.h for the model of a config, under its layout:
/// bytes that each rank of a world of `world_size` holds, the padding of partitions left
/// out. The world is a multiple of EP, and the experts are one of EP.
ParameterBytes planned_bytes(const ModelSize& size, const ParallelConfig& parallel,
                             int64_t zero_stage, at::ScalarType compute, int64_t world_size);

/// The memory of one rank at its fullest, by part, in bytes (docs/plan.md has the formulas).
struct MemoryPlan {
  ParameterBytes parameters;        // held throughout
  ActivationBytes balanced, worst;  // while a micro-batch is under way
  int64_t reduction = 0;   // buffers of MPI while the step's gradients are summed, after that
  int64_t start = 0;       // the largest tensor in float32, while the first weights are drawn
  int64_t checkpoint = 0;  // a saved state's copy, which is kept for the next
  int64_t allocator = 0;   // holes between blocks that were freed
  int64_t program = 0;     // what the process takes without all this; 0: not known

  /// Of the step: activations and reductions are never alive together.
  int64_t transient() const { return largest(balanced); }
  /// Rows of tokens at the experts, part of the transient.
  int64_t exchange() const { return std::min(balanced.exchange, transient()); }
  int64_t activations() const { return transient() - exchange(); }
  int64_t total() const { return held() + transient(); }
  int64_t worst_total() const { return held() + largest(worst); }

 private:
  int64_t held() const {
    return parameters.weights + parameters.gradients + parameters.optimizer + checkpoint +
           allocator + program;
  }
  int64_t largest(const ActivationBytes& activations) const {
    return std::max({activations.peak, reduction, start});
  }
};

/// Of a config whose autos are resolved, vocab_size included, for one rank of `world_size`,
/// a multiple of parallel.expert, in host memory. `program` is left to the caller. Local,
/// builds nothing.
MemoryPlan plan_memory(const RunConfig& config, at::ScalarType compute, int64_t world_size);

/// The same on a device of its own: what is the host's is left out, which are the copy of a
/// checkpoint, the C library's heap, the program and MPI's buffers.
MemoryPlan on_device(MemoryPlan plan);

}  // namespace switchyard
