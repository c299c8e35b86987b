#pragma once

#include <string>
#include <vector>

#include "distributed/rank_state.h"

namespace switchyard {

/// What the system says of a rank's process.
enum class ProcessState {
  kUnknown,  // on another host
  kRunning,
  kStopped,  // by SIGSTOP or a debugger
  kGone,
};

struct SeenRank {
  RankState state;
  ProcessState process = ProcessState::kUnknown;
};

/// Which rank holds up the others, and why, as one sentence. In this order:
///
///   1. a rank is stopped or gone
///   2. the n-th collective of a communicator is not the same call on all its ranks: one
///      skipped a collective or called another
///   3. rows that one rank sends are not what its peer expects
///   4. ranks on several hosts have all called the same, have all told that they hang, and
///      some are still inside: the network between their hosts
///   5. ranks wait in a collective that others have not entered: those that are
///      outside all collectives; failing that, the smaller party
///
/// With two ranks 2 cannot tell who is right and names both.
std::string odd_one_out(const std::vector<SeenRank>& ranks);

}  // namespace switchyard
