#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace switchyard {

/// Bytes of this process in RAM once the libraries have done all that a training step asks of
/// them: it takes a step of a model of a few thousand parameters, in a world of one, and reads
/// its resident set. LibTorch's and oneDNN's code and tables; MPI's too where it is
/// initialised. Local; leaves the number of threads at one.
int64_t measure_program_bytes(at::ScalarType compute);

}  // namespace switchyard
