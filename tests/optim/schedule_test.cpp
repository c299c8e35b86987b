#include "optim/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"

namespace switchyard {
namespace {

constexpr const char* kTypes[] = {"constant", "linear", "cosine", "wsd", "inverse_sqrt"};

ScheduleConfig schedule(const std::string& type, int64_t warmup_steps) {
  return {.type = type, .warmup_steps = warmup_steps, .min_lr_ratio = 0.1, .decay_fraction = 0.2};
}

TEST(ScheduleTest, EveryTypeWarmsUpLinearlyToTheFullRate) {
  for (const char* type : kTypes) {
    const ScheduleConfig config = schedule(type, 10);
    EXPECT_DOUBLE_EQ(schedule_factor(config, 1, 110), 0.1) << type;
    EXPECT_DOUBLE_EQ(schedule_factor(config, 5, 110), 0.5) << type;
    EXPECT_DOUBLE_EQ(schedule_factor(config, 9, 110), 0.9) << type;
    EXPECT_DOUBLE_EQ(schedule_factor(config, 10, 110), 1.0) << type;
  }
}

TEST(ScheduleTest, NoWarmUpStartsAtOnce) {
  for (const char* type : kTypes) {
    EXPECT_NEAR(schedule_factor(schedule(type, 0), 1, 1'000'000), 1.0, 1e-5) << type;
    EXPECT_DOUBLE_EQ(schedule_factor(schedule(type, 1), 1, 100), 1.0) << type;
  }
}

TEST(ScheduleTest, Constant) {
  for (const int64_t step : {10, 11, 60, 110, 500}) {
    EXPECT_DOUBLE_EQ(schedule_factor(schedule("constant", 10), step, 110), 1.0);
  }
}

TEST(ScheduleTest, Linear) {
  const ScheduleConfig config = schedule("linear", 10);
  EXPECT_DOUBLE_EQ(schedule_factor(config, 11, 110), 0.991);
  EXPECT_DOUBLE_EQ(schedule_factor(config, 35, 110), 0.775);
  EXPECT_DOUBLE_EQ(schedule_factor(config, 60, 110), 0.55);
  EXPECT_DOUBLE_EQ(schedule_factor(config, 110, 110), 0.1);
  EXPECT_DOUBLE_EQ(schedule_factor(config, 200, 110), 0.1);
}

TEST(ScheduleTest, Cosine) {
  const ScheduleConfig config = schedule("cosine", 10);
  EXPECT_DOUBLE_EQ(schedule_factor(config, 35, 110), 0.1 + 0.9 * (1 + std::sqrt(0.5)) / 2);
  EXPECT_DOUBLE_EQ(schedule_factor(config, 60, 110), 0.55);
  EXPECT_DOUBLE_EQ(schedule_factor(config, 110, 110), 0.1);
  EXPECT_DOUBLE_EQ(schedule_factor(config, 200, 110), 0.1);
}

TEST(ScheduleTest, WarmUpStableDecay) {
  const ScheduleConfig config = schedule("wsd", 10);
  EXPECT_DOUBLE_EQ(schedule_factor(config, 50, 100), 1.0);
  EXPECT_DOUBLE_EQ(schedule_factor(config, 80, 100), 1.0);
  EXPECT_DOUBLE_EQ(schedule_factor(config, 81, 100), 0.955);
  EXPECT_DOUBLE_EQ(schedule_factor(config, 90, 100), 0.55);
  EXPECT_DOUBLE_EQ(schedule_factor(config, 100, 100), 0.1);
  EXPECT_DOUBLE_EQ(schedule_factor(config, 150, 100), 0.1);
}

TEST(ScheduleTest, InverseSquareRoot) {
  const ScheduleConfig config = schedule("inverse_sqrt", 4);
  EXPECT_DOUBLE_EQ(schedule_factor(config, 16, 1000), 0.5);
  EXPECT_DOUBLE_EQ(schedule_factor(config, 64, 1000), 0.25);
  EXPECT_DOUBLE_EQ(schedule_factor(config, 400, 1000), 0.1);
  EXPECT_DOUBLE_EQ(schedule_factor(config, 1000, 1000), 0.1);
  EXPECT_DOUBLE_EQ(schedule_factor(schedule("inverse_sqrt", 0), 1, 1000), 1.0);
  EXPECT_DOUBLE_EQ(schedule_factor(schedule("inverse_sqrt", 0), 4, 1000), 0.5);
}

TEST(ScheduleTest, LastStepAndFloorAreReachedByEveryTypeThatDecays) {
  for (const char* type : {"linear", "cosine", "wsd"}) {
    for (const double floor : {0.0, 0.3, 1.0}) {
      ScheduleConfig config = schedule(type, 3);
      config.min_lr_ratio = floor;
      EXPECT_NEAR(schedule_factor(config, 37, 37), floor, 1e-15) << type;
    }
  }
}

TEST(ScheduleTest, AnUnknownWordIsAConfigError) {
  EXPECT_THROW(schedule_factor(schedule("step", 0), 1, 10), ConfigError);
}

}  // namespace
}  // namespace switchyard
