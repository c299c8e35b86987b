#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// MPI_Alltoallv itself over all ranks of the job, as many bytes to each: what
/// Communicator::all_to_all is held against. `input` and `output` are contiguous, of one size
/// in bytes, a multiple of the ranks, at most INT_MAX. Collective. Throws CommError.
void raw_all_to_all(const at::Tensor& input, at::Tensor& output);

}  // namespace switchyard
