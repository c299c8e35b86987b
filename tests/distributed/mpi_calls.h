#pragma once

#include <cstdint>

namespace switchyard {

/// The largest count that an MPI collective or message of this process was given since
/// `forget_mpi_counts`: the calls go through wrappers (mpi_calls.cpp) on their way to
/// MPI. A reduce-scatter counts its whole input, which MPI multiplies in an int.
int64_t largest_mpi_count();
void forget_mpi_counts();

}  // namespace switchyard
