#include "metrics/memory.h"

#include <gtest/gtest.h>

#include <vector>

namespace switchyard {
namespace {

TEST(MemoryTest, ThePeakRemembersWhatWasFreed) {
  constexpr int64_t kBytes = int64_t{64} << 20;
  const int64_t before = current_rss_bytes();
  EXPECT_GT(before, 0);
  {
    const std::vector<char> block(kBytes, 1);
    EXPECT_GT(current_rss_bytes(), before + kBytes / 2) << block.size();
  }
  // Halves, because the kernel's counters lag by some pages.
  EXPECT_LT(current_rss_bytes(), before + kBytes / 2);
  EXPECT_GT(peak_rss_bytes(), before + kBytes / 2);
}

}  // namespace
}  // namespace switchyard
