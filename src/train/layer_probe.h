#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "config/run_config.h"
#include "distributed/mesh.h"
#include "moe/token_context.h"

namespace switchyard {

/// Tensors by name, as in a safetensors file.
using NamedTensors = std::map<std::string, at::Tensor>;

/// One MoE layer by itself, so that anyone can hold it against a reference:
///
///   in   x (T, D); token_ids (T), domains (T) and grad_y (T, D) if they are there; weights
///        of the layer under native names ("model.layers.3.mlp.gate.weight"), each over what
///        `weights` has of that name, and that over what training would draw
///   out  logits, probs (T, E); experts, weights (T, K): zero where a choice was dropped;
///        kept (T, K); y (T, D); losses (2): the unscaled balance loss, summed over
///        moe.balance, and the z-loss; with grad_y also grad_x (T, D) and
///        grad.NAME for every weight: gradients of sum(y * grad_y)
///
/// The T tokens are one sequence and one routing group; in float32. `mode` decides about
/// capacity, jitter and dropout. `mesh` is a world of one. Throws ConfigError when `layer`
/// is no MoE layer of the model, DataError when a tensor of `in` has another shape or no
/// place in the layer.
NamedTensors probe_layer(const RunConfig& config, int64_t layer, Mode mode, const Mesh& mesh,
                         const NamedTensors& weights, const NamedTensors& in);

/// Native names of the layer's weights and state, and their shapes.
std::map<std::string, std::vector<int64_t>> layer_tensors(const RunConfig& config, int64_t layer);

}  // namespace switchyard
