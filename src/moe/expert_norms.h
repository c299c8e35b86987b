#pragma once

#include <ATen/core/Tensor.h>

#include "distributed/communicator.h"
#include "moe/experts.h"

namespace switchyard {

/// ||E_i(x_t)||_2 of every expert i of a layer for every token t of this rank, chosen or
/// not: (T, E) float32 of x_TD (T, D). Each rank of `group` has the `experts` of its share,
/// in rank order, and computes them for the tokens of all. Without a gradient. Collective
/// over `group`, with zero tokens too.
at::Tensor expert_norms(const Experts& experts, const at::Tensor& x_TD, Communicator& group);

}  // namespace switchyard
