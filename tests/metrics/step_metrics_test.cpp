#include "metrics/step_metrics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace switchyard {
namespace {

TEST(StepMetricsTest, PerfectBalanceHasMaxLoadOne) {
  const MoeLayerMetrics metrics = layer_metrics(2, {5, 5, 5, 5});
  EXPECT_EQ(metrics.layer, 2);
  EXPECT_EQ(metrics.max_load, 1.0);
  EXPECT_EQ(metrics.load, (std::vector<double>{0.25, 0.25, 0.25, 0.25}));
}

TEST(StepMetricsTest, CollapseToOneExpertHasMaxLoadE) {
  const MoeLayerMetrics metrics = layer_metrics(0, {0, 0, 12, 0});
  EXPECT_EQ(metrics.max_load, 4.0);
  EXPECT_EQ(metrics.load, (std::vector<double>{0, 0, 1, 0}));
}

TEST(StepMetricsTest, AnExpertWithoutACopyIsDead) {
  EXPECT_EQ(layer_metrics(0, {0, 3, 12, 0}).dead(), 2);
  EXPECT_EQ(layer_metrics(0, {1, 1}).dead(), 0);
}

TEST(StepMetricsTest, NoCopiesAtAllIsBalanced) {
  const MoeLayerMetrics metrics = layer_metrics(0, {0, 0});
  EXPECT_EQ(metrics.max_load, 1.0);
  EXPECT_EQ(metrics.load, (std::vector<double>{0, 0}));
}

TEST(StepMetricsTest, PerplexityIsTheExponentialOfTheLoss) {
  const EvalMetrics metrics{1, "val", std::log(50.0), {}, 1};
  EXPECT_DOUBLE_EQ(metrics.perplexity(), 50.0);
}

}  // namespace
}  // namespace switchyard
