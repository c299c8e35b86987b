#pragma once

#include <cstdint>
#include <vector>

namespace switchyard {

/// Some rows that go through several products before the next rows do, so that what passes from
/// one product to the next stays in the cache: rows [row, row + rows) of all, which belong to
/// groups [group, group + rows_E.size()).
struct Wave {
  int64_t group = 0, row = 0, rows = 0;
  std::vector<int64_t> rows_E;  // of each of those groups, in this wave
};

/// All rows, sorted by group, rows_E of each, in waves of at most `size` rows, or of one group's
/// next_share(..., size) (blocked_gemm.h). Of a group that is in several waves, each but the last
/// has `size` rows.
std::vector<Wave> waves_of(const std::vector<int64_t>& rows_E, int64_t size);

}  // namespace switchyard
