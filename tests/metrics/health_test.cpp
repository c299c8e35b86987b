#include "metrics/health.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

StepMetrics record_of(const std::vector<std::vector<int64_t>>& copies_LE, double dropped = 0) {
  StepMetrics metrics;
  for (const auto& copies_E : copies_LE) {
    metrics.moe.push_back(layer_metrics(static_cast<int64_t>(metrics.moe.size()) + 1, copies_E));
    metrics.moe.back().dropped = dropped;
  }
  return metrics;
}

/// What is said of `records` records one after another.
std::vector<std::string> said(Health& health, const StepMetrics& record, int records) {
  std::vector<std::string> all;
  for (int i = 0; i < records; ++i) {
    for (const std::string& warning : health.look_at(record)) all.push_back(warning);
  }
  return all;
}

TEST(HealthTest, ADeadExpertIsNamedOnceWithWhatToDo) {
  Health health;
  const StepMetrics record = record_of({{600, 600}, {0, 1800, 0, 1800}});
  EXPECT_TRUE(said(health, record, 2).empty());
  const auto warnings = said(health, record, 10);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("layer 2: no token goes to expert 0, 2 any more; raise "
                             "moe.balance.coef"),
            std::string::npos)
      << warnings[0];
}

TEST(HealthTest, FewCopiesMayMissAnExpertForLong) {
  Health health;
  EXPECT_TRUE(said(health, record_of({{0, 20}}), 99).empty());  // 990 copies by now
  EXPECT_EQ(said(health, record_of({{0, 20}}), 1).size(), 1u);
}

TEST(HealthTest, ACopyBringsAnExpertBackToLife) {
  Health health;
  const StepMetrics without = record_of({{0, 2000}}), with = record_of({{1, 1999}});
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(said(health, without, 2).empty());
    EXPECT_TRUE(said(health, with, 1).empty());
  }
}

TEST(HealthTest, DropsAreAveragedOverRecordsAndLayersAndSaidOnce) {
  Health health;
  StepMetrics half = record_of({{10, 10}, {10, 10}}, 0.0);
  half.moe[0].dropped = 0.5;
  EXPECT_TRUE(said(health, half, 9).empty());
  const auto warnings = said(health, half, 20);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("capacity drops 25% of the routed tokens; raise moe.capacity.factor"),
            std::string::npos)
      << warnings[0];
}

TEST(HealthTest, FewDropsAndDenseModelsAreFine) {
  Health health;
  EXPECT_TRUE(said(health, record_of({{10, 10}}, 0.09), 30).empty());
  EXPECT_TRUE(said(health, StepMetrics(), 30).empty());
}

}  // namespace
}  // namespace switchyard
