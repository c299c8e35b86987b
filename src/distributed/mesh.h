#pragma once

#include <memory>

#include "config/run_config.h"
#include "distributed/communicator.h"

namespace switchyard {

/// The process groups of a run: world W = EP x EDP.
///
///   world   all ranks: dense parameters (routers included) are replicated here
///   expert  the EP ranks that together hold all experts, one share each: tokens
///           are exchanged here
///   data    the EDP ranks that hold the same experts: expert gradients are
///           summed here
///
/// `parallel.order: expert_inner` (default) puts neighbours into one expert
/// group: ep = rank % EP, edp = rank / EP; `data_inner` swaps the two.
struct Mesh {
  std::unique_ptr<Communicator> world, expert, data;
  int64_t overlap_chunks = 1;  // of `parallel`: parts of an exchange of tokens

  int expert_rank() const { return expert->rank(); }
  int expert_size() const { return expert->size(); }
};

/// Where a rank of the world stands in the groups of its mesh.
struct MeshPlace {
  int ep = 0, edp = 0;          // its rank in `expert` and in `data`
  Members world, expert, data;  // the ranks of its groups
};

/// Local. Throws ConfigError when the world is not a multiple of `parallel.expert`.
MeshPlace place_in_mesh(const ParallelConfig& parallel, int rank, int world_size);

}  // namespace switchyard
