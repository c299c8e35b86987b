#pragma once

#include "support/op_cases.h"

namespace switchyard {

/// The same for the losses of src/loss that tokens' numbers go through.
std::vector<OpCase> loss_cases();

}  // namespace switchyard
