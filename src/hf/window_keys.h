#pragma once

#include <optional>

#include "hf/config_reader.h"
#include "hf/family_traits.h"

namespace switchyard {

/// The window of attention that the family's keys and `layer_types` give every layer; none
/// when they give none. DataError where only some of the `num_layers` layers have one.
std::optional<int64_t> read_window(const FamilyTraits& traits, const HfConfigReader& config,
                                   int64_t num_layers);

}  // namespace switchyard
