#pragma once

#include <c10/core/Device.h>

#include <memory>

#include "distributed/communicator.h"

namespace switchyard {

/// Throws ConfigError, on all ranks of `world`, when two of them would compute on one GPU, which
/// NCCL refuses. Collective.
void check_one_rank_per_gpu(Communicator& world, c10::Device device);

/// A Communicator over the ranks of `host`, an MPI communicator, which tensors on `device`, this
/// rank's GPU, cross by NCCL, and tensors in host memory by `host`. Collective over `host`: makes
/// and warms NCCL's communicator.
///
/// What happens on the GPU is in the order of the current stream: a call returns when its work is
/// enqueued, on a stream of this communicator's own, which runs after what the current stream had
/// to do before; the current stream waits for it, the host does not. That goes for
/// UnderWay::wait too; between start and wait the current stream runs beside it. A failure of
/// NCCL or of a peer that is found by then is a CommError. One that comes later aborts what is
/// under way, so that the host does not wait for it, and is the next call's CommError: a thread
/// looks ten times a second. Rows of a peer that are not as many as expected hang, and are the
/// watchdog's as well.
///
/// NCCL adds pair by pair, each sum of two bfloat16 rounded once, in an order that the number of
/// ranks, the size and the machine decide: nothing has to be set for a run to repeat itself.
std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host,
                                                     c10::Device device);

}  // namespace switchyard
