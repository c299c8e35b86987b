#pragma once

#include <mpi.h>

#include <memory>

#include "distributed/communicator.h"

namespace switchyard {

/// A Communicator over an MPI communicator of its own (duplicated or split), on
/// host memory. Collective over `parent`: every rank of it must call.
///
///   color, key     as in MPI_Comm_split: ranks of one color form a group, in
///                  the order of their keys
///   round_limit    most elements, rows or displacements that one MPI call is
///                  given; more go in rounds. INT_MAX but in tests.
std::unique_ptr<Communicator> make_mpi_communicator(MPI_Comm parent, int color, int key,
                                                    const std::string& name,
                                                    int64_t round_limit = INT32_MAX);

}  // namespace switchyard
