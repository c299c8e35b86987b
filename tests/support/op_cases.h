#pragma once

#include <string>
#include <vector>

#include "support/tensors.h"

namespace switchyard {

/// One call of an op, for `evaluate`: of the ops of src/ops that have arithmetic for devices, with
/// widths that vector loads take and that they do not, rows of padding, dropped pairs, experts
/// without rows, and none at all.
struct OpCase {
  std::string name;
  TensorFunction f;
  std::vector<at::Tensor> inputs;
};
std::vector<OpCase> op_cases();

}  // namespace switchyard
