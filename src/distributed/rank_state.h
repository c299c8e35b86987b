#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "distributed/flight_record.h"

namespace switchyard {

using WallClock = std::chrono::system_clock;

/// One collective out of a flight record.
struct RecordedCollective {
  WallClock::time_point entered;
  std::string communicator;
  int64_t number = 0;  // among those of its communicator, from 1
  std::string op, purpose;
  int64_t bytes = 0;
  std::optional<double> milliseconds;  // none: it has not ended
  bool under_way = false;              // begun, and the rank does something else meanwhile
  /// All-to-all only: rows to and from the members, the first of them in a big world.
  std::vector<int64_t> rows_to, rows_from;
  bool rows_cut = false;
};

struct RecordedCommunicator {
  std::string name;
  Members members;
};

/// What a rank's flight record says.
struct RankState {
  int rank = 0, world_size = 1;
  std::string host;
  int64_t pid = 0;
  RankStatus status = RankStatus::kRunning;
  int64_t step = 0;  // 0: none yet
  std::string phase;
  std::string checkpoint;
  std::vector<RecordedCommunicator> communicators;
  std::vector<RecordedCollective> collectives;  // oldest first
  WallClock::time_point changed;                // the last sign of progress

  /// The collective that it is in; null outside.
  const RecordedCollective* inside() const;
};

/// Throws DataError when `text` is no flight record. A record that is being written
/// to may be read: a torn line in it is left out.
RankState parse_flight_record(std::string_view text);

/// all-to-all #41 "dispatch in layer 3" of expert parallel
std::string describe(const RecordedCollective& collective);

/// rank 2 (host h, pid 123): step 7, forward, 3.0 s in all-to-all #41 "dispatch in
/// layer 3" of expert parallel, 4096 bytes, rows to [1 2] from [3 4]
std::string describe(const RankState& state, WallClock::time_point now);

/// "rank 2 (host h, pid 123)"
std::string name_of(const RankState& state);

/// "; last checkpoint runs/r/checkpoints/step-00000005, from which --resume auto goes on"
std::string way_out(const std::string& checkpoint);

}  // namespace switchyard
