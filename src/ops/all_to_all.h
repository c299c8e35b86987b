#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "distributed/communicator.h"

namespace switchyard {

/// Communicator::all_to_all with a gradient: backward is the same exchange with
/// the counts swapped. Collective over `group`, forward and backward: the result
/// always requires a gradient when x does, with zero rows too, so every rank
/// enters both. `group` must outlive the graph. `purpose` must be a literal.
at::Tensor all_to_all_rows(const at::Tensor& x_SD, const std::vector<int64_t>& send_rows,
                           const std::vector<int64_t>& recv_rows, Communicator& group,
                           const char* purpose);

}  // namespace switchyard
