#pragma once

#include "distributed/runtime.h"

namespace switchyard {

/// MPI of a test that runs under mpirun with tests/support/mpi_main.cpp as its
/// main: initialised before the first test, finalised after the last.
const Runtime& test_runtime();

}  // namespace switchyard
