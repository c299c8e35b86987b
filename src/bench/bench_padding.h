#pragma once

#include "bench/bench_moe_layer.h"

namespace switchyard {

/// One entry of `padding` (bench_moe_layer.h): what padding costs at the routing experts_TK
/// (T, K). Every rank holds all experts. Collective over `world`.
nlohmann::json bench_padding(Communicator& world, const LayerCase& layer, at::ScalarType dtype,
                             const at::Tensor& experts_TK, const Rounds& rounds);

}  // namespace switchyard
