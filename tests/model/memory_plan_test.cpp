#include "model/memory_plan.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace switchyard {
namespace {

/// d = 1000 and e = 800 on W = 4, EP = 2: 1400 parameters live on a rank, and it owns 450.
ParameterBytes planned(int64_t stage, at::ScalarType compute) {
  ModelSize size;
  size.dense_parameters = 1000;
  size.expert_parameters = 800;
  ParallelConfig parallel;
  parallel.expert = 2;
  return planned_bytes(size, parallel, stage, compute, /*world_size=*/4);
}

void expect_bytes(const ParameterBytes& bytes, int64_t weights, int64_t gradients,
                  int64_t optimizer) {
  EXPECT_EQ(bytes.weights, weights);
  EXPECT_EQ(bytes.gradients, gradients);
  EXPECT_EQ(bytes.optimizer, optimizer);
}

TEST(MemoryPlanTest, Bfloat16ByHand) {
  expect_bytes(planned(0, at::kBFloat16), 2 * 1400, 4 * 1400, 12 * 1400);
  expect_bytes(planned(1, at::kBFloat16), 2 * 1400, 4 * 1400, 12 * 450);
  expect_bytes(planned(2, at::kBFloat16), 2 * 1400, 4 * 450, 12 * 450);
}

TEST(MemoryPlanTest, Float32ByHand) {
  expect_bytes(planned(0, at::kFloat), 4 * 1400, 4 * 1400, 8 * 1400);
  expect_bytes(planned(1, at::kFloat), 4 * 1400, 4 * 1400, 8 * 450);
  expect_bytes(planned(2, at::kFloat), 4 * 1400, 4 * 450, 8 * 450);
}

TEST(MemoryPlanTest, OnOneRankEveryStageIsTheSame) {
  ModelSize size;
  size.dense_parameters = 7;
  size.expert_parameters = 4;
  for (const int64_t stage : {0, 1, 2}) {
    expect_bytes(planned_bytes(size, ParallelConfig(), stage, at::kFloat, 1), 44, 44, 88);
  }
}

TEST(MemoryPlanTest, SharesAreRoundedUp) {
  ModelSize size;
  size.dense_parameters = 10;
  expect_bytes(planned_bytes(size, ParallelConfig(), 2, at::kFloat, 4), 40, 12, 24);
}

}  // namespace
}  // namespace switchyard
