#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

/// The layers that `moe.layers` picks from [0, num_layers), ascending, or what
/// is wrong with it: `error` then says so, beginning with "must" or "picks".
struct LayerChoice {
  std::vector<int64_t> layers;
  std::string error;
};

LayerChoice choose_layers(const std::string& text, int64_t num_layers);

}  // namespace switchyard
