#include "metrics/span.h"

#include <gtest/gtest.h>

#include <thread>

namespace switchyard {
namespace {

TEST(SpanTest, ScopesAddUpInTheirOwnField) {
  using namespace std::chrono_literals;
  PhaseTimes times;
  for (int i = 0; i < 3; ++i) {
    const Span span(times.forward_ms);
    std::this_thread::sleep_for(2ms);
  }
  EXPECT_GE(times.forward_ms, 6.0);
  EXPECT_EQ(times.backward_ms, 0.0);
}

TEST(SpanTest, AScopeLeftByAnExceptionCounts) {
  using namespace std::chrono_literals;
  PhaseTimes times;
  try {
    const Span span(times.data_ms);
    std::this_thread::sleep_for(1ms);
    throw 1;
  } catch (int) {
  }
  EXPECT_GE(times.data_ms, 1.0);
}

}  // namespace
}  // namespace switchyard
