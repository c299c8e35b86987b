#pragma once

#include <ATen/core/Tensor.h>

#include "distributed/communicator.h"

namespace switchyard {

/// Communicator::start_all_to_all, waited for, with a gradient: backward is the same
/// exchange from `recv` to `send`. The blocks of each tile their tensor: x_SD (S, D) is
/// sent, (R, D) comes back. Collective over `group`, forward and backward: the result
/// always requires a gradient when x does, with zero rows too, so every rank
/// enters both. `group` must outlive the graph. `purpose` must be a literal.
at::Tensor all_to_all_rows(const at::Tensor& x_SD, const RowBlocks& send, const RowBlocks& recv,
                           Communicator& group, const char* purpose);

}  // namespace switchyard
