#include "metrics/rank_correlation.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/json.h"

namespace switchyard {
namespace {

using Values = std::vector<double>;

TEST(RankCorrelationTest, EqualValuesShareTheMeanOfTheirRanks) {
  EXPECT_EQ(average_ranks(Values{30, 10, 20}), (Values{3, 1, 2}));
  EXPECT_EQ(average_ranks(Values{5, 1, 5, 5}), (Values{3, 1, 3, 3}));
  EXPECT_EQ(average_ranks(Values{2, 2}), (Values{1.5, 1.5}));
  EXPECT_EQ(average_ranks(Values{}), Values{});
}

TEST(RankCorrelationTest, OrderIsAllThatCounts) {
  const Values x = {0.1, 5, -3, 7}, y = {1, 1e6, -1e-9, 1e7};
  EXPECT_EQ(spearman(x, y), 1.0);
  EXPECT_EQ(spearman(x, Values{-1, -1e6, 1e-9, -1e7}), -1.0);
  // 1 - 6 * (1 + 1) / (4 * 15): two neighbours changed places.
  EXPECT_NEAR(spearman(x, Values{1e6, 1, -1e-9, 1e7}).value(), 0.8, 1e-15);
}

TEST(RankCorrelationTest, IsNothingWhereItIsNotDefined) {
  EXPECT_FALSE(spearman(Values{}, Values{}));
  EXPECT_FALSE(spearman(Values{1}, Values{2}));
  EXPECT_FALSE(spearman(Values{1, 2, 3}, Values{4, 4, 4}));
  EXPECT_FALSE(spearman(Values{4, 4, 4}, Values{1, 2, 3}));
}

/// tests/golden/make_spearman.py: scipy.stats.spearmanr, ties in most of the cases.
TEST(RankCorrelationTest, P10_ScipysNumbers) {
  const nlohmann::json golden = read_json_file(SWITCHYARD_SOURCE_DIR "/tests/golden/spearman.json");
  ASSERT_GE(golden["cases"].size(), 100U);
  size_t undefined = 0;
  for (const nlohmann::json& one : golden["cases"]) {
    const auto x = one["x"].get<Values>(), y = one["y"].get<Values>();
    const auto correlation = spearman(x, y);
    ASSERT_EQ(correlation.has_value(), !one["spearman"].is_null()) << one;
    undefined += correlation ? 0 : 1;
    if (!correlation) continue;
    EXPECT_NEAR(*correlation, one["spearman"].get<double>(), 1e-12) << one;
  }
  EXPECT_GT(undefined, 0U);
  EXPECT_LT(undefined, 20U);
}

}  // namespace
}  // namespace switchyard
