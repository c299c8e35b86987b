#include "ops/vector_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace switchyard {
namespace {

TEST(VectorMathTest, ExpIsWithinTwoUnitsInTheLastPlace) {
  double worst = 0;
  for (double x = -87; x <= 88; x += 1e-3) {
    const auto at = static_cast<float>(x);
    const double exact = std::exp(static_cast<double>(at));
    worst = std::max(worst, std::abs(fast_exp(at) - exact) / exact);
  }
  EXPECT_LT(worst, 2 * std::numeric_limits<float>::epsilon());
}

TEST(VectorMathTest, ExpAtTheEnds) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(fast_exp(0), 1);
  EXPECT_EQ(fast_exp(-kInfinity), 0);
  EXPECT_EQ(fast_exp(-1000), 0);
  EXPECT_EQ(fast_exp(kInfinity), kInfinity);
  EXPECT_EQ(fast_exp(1000), kInfinity);
  EXPECT_TRUE(std::isnan(fast_exp(std::numeric_limits<float>::quiet_NaN())));
}

TEST(VectorMathTest, Sigmoid) {
  EXPECT_EQ(fast_sigmoid(0), 0.5F);
  EXPECT_NEAR(fast_sigmoid(1.5F), 1 / (1 + std::exp(-1.5)), 1e-7);
  EXPECT_EQ(fast_sigmoid(-1000), 0);
  EXPECT_EQ(fast_sigmoid(1000), 1);
}

}  // namespace
}  // namespace switchyard
