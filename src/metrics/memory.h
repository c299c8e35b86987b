#pragma once

#include <cstdint>

namespace switchyard {

/// The memory of this process that is in RAM (its resident set), in bytes, and
/// the most it has been since the process started. From /proc/self/status; 0
/// where there is none.
int64_t current_rss_bytes();
int64_t peak_rss_bytes();

}  // namespace switchyard
