#include "metrics/score_window.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace switchyard {
namespace {

ScoreWindow window_of(int64_t limit, const std::vector<double>& values) {
  ScoreWindow window(limit);
  for (const double value : values) window.push(value);
  return window;
}

TEST(ScoreWindowTest, TheScoreIsTheDistanceInDeviations) {
  const ScoreWindow window = window_of(4, {2, 4, 2, 4});  // mean 3, deviation sqrt(4 / 3)
  EXPECT_NEAR(window.score(5), 2 / std::sqrt(4.0 / 3), 1e-15);
  EXPECT_NEAR(window.score(0), -3 / std::sqrt(4.0 / 3), 1e-15);
}

TEST(ScoreWindowTest, HalfOfTheWindowMustBeThere) {
  EXPECT_TRUE(std::isnan(window_of(6, {1, 2}).score(1)));
  EXPECT_FALSE(std::isnan(window_of(6, {1, 2, 3}).score(1)));
}

TEST(ScoreWindowTest, OldValuesLeave) {
  EXPECT_EQ(window_of(3, {9, 1, 2, 3}).values(), (std::vector<double>{1, 2, 3}));
}

TEST(ScoreWindowTest, WithoutAnyDeviationAnotherValueIsInfinitelyFar) {
  const ScoreWindow window = window_of(2, {1, 1});
  EXPECT_EQ(window.score(1), 0);
  EXPECT_EQ(window.score(2), std::numeric_limits<double>::infinity());
  EXPECT_EQ(window.score(0), -std::numeric_limits<double>::infinity());
}

}  // namespace
}  // namespace switchyard
