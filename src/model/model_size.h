#pragma once

#include <cstdint>

#include "config/run_config.h"

namespace switchyard {

/// Sizes of a model, from its config alone. Autos are resolved.
struct ModelSize {
  int64_t dense_parameters =
      0;  // replicated: embeddings, attention, norms, routers, shared experts
  int64_t expert_parameters = 0;  // of all experts
  int64_t active_parameters = 0;  // that one token meets: dense + top_k experts per MoE layer
  double flops_per_token = 0;     // of a training step, see model_size

  int64_t total_parameters() const { return dense_parameters + expert_parameters; }
};

/// FLOPs of forward and backward per token (Chowdhery et al., arXiv:2204.02311
/// appendix B): 6 for each active weight that takes part in a matrix product (the
/// embedding look-up and the norms do not) plus causal attention's
/// 6 * layers * sequence_length * heads * head_dim. With router `dense_training` all experts
/// are active in a training step; active_parameters are those of inference, by top_k.
ModelSize model_size(const ModelConfig& model, const MoeConfig& moe, int64_t sequence_length);

}  // namespace switchyard
