#pragma once

#include <memory>

#include "distributed/communicator.h"

namespace switchyard {

/// The world of one: every collective is the identity. Needs no MPI.
std::unique_ptr<Communicator> make_solo_communicator(const std::string& name);

}  // namespace switchyard
