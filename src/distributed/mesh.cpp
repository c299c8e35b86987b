#include "distributed/mesh.h"

#include "base/error.h"

namespace switchyard {

MeshPlace place_in_mesh(const ParallelConfig& parallel, int rank, int world_size) {
  const int EP = static_cast<int>(parallel.expert);
  if (EP < 1 || world_size % EP != 0) {
    throw ConfigError("parallel.expert: " + std::to_string(EP) + " does not divide the world of " +
                      std::to_string(world_size) +
                      " ranks; launch a multiple of it with mpirun -n");
  }
  const bool expert_inner = parallel.order == "expert_inner";
  const int inner = expert_inner ? EP : world_size / EP;  // ranks of a group of neighbours
  const Members neighbours{rank - rank % inner, 1, inner};
  const Members strided{rank % inner, inner, world_size / inner};
  MeshPlace place;
  place.ep = expert_inner ? rank % inner : rank / inner;
  place.edp = expert_inner ? rank / inner : rank % inner;
  place.world = {0, 1, world_size};
  place.expert = expert_inner ? neighbours : strided;
  place.data = expert_inner ? strided : neighbours;
  return place;
}

}  // namespace switchyard
