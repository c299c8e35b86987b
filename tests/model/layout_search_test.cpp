#include "model/layout_search.h"

#include <gtest/gtest.h>

#include "config/load_config.h"

namespace switchyard {
namespace {

RunConfig sample_config() {
  RunConfig config;
  config.model.vocab_size = 1000;
  config.train.global_batch_size = 32;
  resolve_autos(config.model);
  return config;
}

Budget device_of(int64_t bytes) {
  Budget budget;
  budget.bytes = [bytes](int64_t) { return bytes; };
  budget.host = false;
  return budget;
}

TEST(LayoutSearchTest, WithRoomForAllNothingIsSplitThatNeedNotBe) {
  const auto fitting = fitting_layouts(sample_config(), at::kFloat, 4, device_of(int64_t{1} << 40));
  ASSERT_FALSE(fitting.empty());
  EXPECT_EQ(fitting.front(), (Layout{4, 1, 1, 4, {}}));
  EXPECT_EQ(set_flags(fitting.front()),
            "--set parallel.expert=1 --set zero.stage=1 --set train.micro_batch_size=4");
}

TEST(LayoutSearchTest, AllThatFitsIsWithinTheBudgetAndTheLeanestSaysWhetherAnythingDoes) {
  const RunConfig config = sample_config();
  const auto leanest = leanest_layout(config, at::kFloat, 4, device_of(0));
  ASSERT_TRUE(leanest);
  const int64_t least = leanest->memory.total();
  EXPECT_TRUE(fitting_layouts(config, at::kFloat, 4, device_of(least - 1)).empty());
  for (const Layout& layout : fitting_layouts(config, at::kFloat, 4, device_of(2 * least))) {
    EXPECT_LE(layout.memory.total(), 2 * least);
    EXPECT_EQ(4 % layout.expert, 0);
    EXPECT_EQ(plan_memory(with_layout(config, layout), at::kFloat, 4).parameters.weights,
              layout.memory.parameters.weights);
  }
  EXPECT_FALSE(fitting_layouts(config, at::kFloat, 4, device_of(least)).empty());
}

TEST(LayoutSearchTest, FewestRanks) {
  const RunConfig config = sample_config();
  const int64_t one = leanest_layout(config, at::kFloat, 1, device_of(0))->memory.total();
  EXPECT_EQ(smallest_fitting(config, at::kFloat, device_of(one)).front().ranks, 1);
  EXPECT_GT(smallest_fitting(config, at::kFloat, device_of(one - 1)).front().ranks, 1);
  EXPECT_TRUE(smallest_fitting(config, at::kFloat, device_of(1000)).empty());
  EXPECT_FALSE(leanest_layout(config, at::kFloat, 3, device_of(0))) << "3 does not divide 32";
}

TEST(DeviceTableTest, NamesAndThisHost) {
  EXPECT_EQ(planned_device("h100", 1)->memory_bytes, 80'000'000'000);
  EXPECT_FALSE(planned_device("abacus", 1));
  EXPECT_EQ(planned_device("cpu", 4)->memory_bytes, planned_device("cpu", 1)->memory_bytes / 4);
}

}  // namespace
}  // namespace switchyard
