#pragma once

#include <nlohmann/json.hpp>

#include "bench/rounds.h"

namespace switchyard {

/// Communicator::all_to_all against MPI_Alltoallv on the same bytes, in turn: 1 KiB, 4 KiB,
/// ... up to `most_bytes` from each rank to each. Ours makes its output and checks the counts, as
/// in a step; MPI's own call writes into one buffer again and again.
///
/// {"bench": "all-to-all", "results": [{"bytes", "ours_s", "raw_s", "ratio", "gb_per_s",
/// "raw_gb_per_s", ...}]}: `bytes` from one rank to one other; bandwidth is what one rank sends to
/// OTHER ranks; `ratio` is raw time / our time. Collective over `world`. Throws ConfigError
/// in a world of one.
nlohmann::json bench_all_to_all(Communicator& world, int64_t most_bytes, const Rounds& rounds);

}  // namespace switchyard
