#include "ops/vector_math.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

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

TEST(VectorMathTest, RowsAreRoundedToNearestEven) {
  std::vector<float> row = {1.0F,
                            1.00390625F,
                            1.01171875F,
                            -1.00390625F,
                            3.0e38F,
                            0.0F,
                            std::numeric_limits<float>::infinity()};
  for (int i = 0; i < 40; ++i) row.push_back(std::sin(0.7F * static_cast<float>(i)) * 5.0F);
  row.push_back(std::numeric_limits<float>::quiet_NaN());
  std::vector<c10::BFloat16> rounded(row.size());
  round_row(row.data(), rounded.data(), static_cast<int64_t>(row.size()));
  for (size_t i = 0; i + 1 < row.size(); ++i) EXPECT_EQ(rounded[i], c10::BFloat16(row[i])) << i;
  EXPECT_TRUE(std::isnan(static_cast<float>(rounded.back())));
}

TEST(VectorMathTest, Largest) {
  std::vector<float> row;
  for (int i = 0; i < 37; ++i) {
    row.push_back(-2.0F - std::sin(0.9F * static_cast<float>(i)));
    EXPECT_EQ(largest(row.data(), i + 1), *std::max_element(row.begin(), row.end())) << i;
  }
  row[3] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(largest(row.data(), 37), row[3]);
}

TEST(VectorMathTest, Sigmoid) {
  EXPECT_EQ(fast_sigmoid(0), 0.5F);
  EXPECT_NEAR(fast_sigmoid(1.5F), 1 / (1 + std::exp(-1.5)), 1e-7);
  EXPECT_EQ(fast_sigmoid(-1000), 0);
  EXPECT_EQ(fast_sigmoid(1000), 1);
}

}  // namespace
}  // namespace switchyard
