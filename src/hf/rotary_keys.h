#pragma once

#include "hf/config_reader.h"
#include "hf/family_traits.h"

namespace switchyard {

/// Reads the rotary embedding into `model`, whose head_dim is known: `rope_theta`,
/// `rope_scaling` and `partial_rotary_factor` of transformers 4, or `rope_parameters` of
/// transformers 5, which holds all three. Where the two would read a config differently it
/// is refused, as are all types but default, linear and llama3: DataError.
void read_rotary_keys(const FamilyTraits& traits, const HfConfigReader& config, ModelConfig& model);

}  // namespace switchyard
