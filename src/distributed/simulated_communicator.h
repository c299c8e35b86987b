#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "config/run_config.h"
#include "distributed/communicator.h"
#include "distributed/mesh.h"

namespace switchyard {

/// What one rank sends to others in calls of one kind. An all-reduce, reduce-scatter or all-gather
/// over G ranks is counted as a ring of them, which sends no byte twice: 2 (G - 1), G - 1 and G - 1
/// messages of a piece to the next rank. A broadcast goes from rank to rank. An all-to-all sends a
/// message for each block that has rows and another rank for its goal.
struct Traffic {
  std::string group, op, purpose;
  int64_t calls = 0, messages = 0;
  int64_t bytes_in_host = 0, bytes_across = 0;  // to ranks of its host, and of others

  int64_t bytes() const { return bytes_in_host + bytes_across; }
};

/// The traffic of a rank, in the order in which kinds of calls first came.
class TrafficLog {
 public:
  Traffic& of(const std::string& group, const char* op, const char* purpose);
  const std::vector<Traffic>& all() const { return all_; }
  /// Of all calls whose purpose begins so.
  int64_t bytes_for(std::string_view purpose) const;

 private:
  std::vector<Traffic> all_;
};

/// A Communicator that stands for rank `rank` of a group whose other ranks are not there. Each
/// call is over at once, and is checked and counted in `log`, which must outlive it. `members` are
/// the group's ranks in the world, whose hosts have `ranks_per_host` ranks each.
///
/// The others do what this rank does: a sum is this rank's times the size; what each of them
/// sends in an all-to-all is what this rank sends to itself; what they bring to an all-gather is
/// this rank's input, but for one in place, where their pieces stay as they are. Rows that come
/// back, by the counts of an earlier exchange the other way round, are some of this rank's. Other
/// counts are a CommError, as they are where ranks are real. Tensors may lie on any device, and
/// have no memory (at::kMeta).
std::unique_ptr<Communicator> make_simulated_communicator(const std::string& name,
                                                          const Members& members, int rank,
                                                          int ranks_per_host, TrafficLog& log);

/// The groups of rank `rank` of `world_size`, as Runtime::make_mesh makes them. Throws ConfigError
/// when the world is not a multiple of `parallel.expert`.
Mesh make_simulated_mesh(const ParallelConfig& parallel, int rank, int world_size,
                         int ranks_per_host, TrafficLog& log);

}  // namespace switchyard
