#pragma once

#include <memory>

#include "distributed/communicator.h"

namespace switchyard {

/// A Communicator over the ranks of `host`, which knows host memory alone, that takes tensors on
/// a device too: they go through host memory, pinned where the device is a GPU. Several ranks may
/// share a device. Every call on device tensors waits for the device, UnderWay::wait for the
/// others' rows alone. Local; the calls are collective.
std::unique_ptr<Communicator> make_host_staged_communicator(std::unique_ptr<Communicator> host);

}  // namespace switchyard
