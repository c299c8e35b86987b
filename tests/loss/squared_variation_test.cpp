#include "loss/squared_variation.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "support/tensors.h"

// G groups, T tokens, E experts.

namespace switchyard {
namespace {

using at::Tensor;

TEST(SquaredVariationTest, C1_IsZeroOnUniformAndEMinusOneOnCollapse) {
  const Tensor sums_GE = at::tensor({3.0, 3.0, 3.0, 3.0, 0.0, 8.0, 0.0, 0.0}, at::kDouble);
  EXPECT_TRUE(
      near(squared_variation(sums_GE.view({2, 4})), at::tensor({0.0, 3.0}, at::kDouble), 1e-12));
}

// Mean 2, deviations -1, 0, 1: variance 2/3, and unbiased 1.
TEST(SquaredVariationTest, C1_TakesThePopulationVariance) {
  const Tensor sums_GE = at::tensor({1.0, 2.0, 3.0}, at::kDouble).view({1, 3});
  EXPECT_NEAR(squared_variation(sums_GE).item<double>(), 2.0 / 3 / 4, 1e-12);
}

TEST(SquaredVariationTest, R1_IsTorchsPopulationVarianceOverTheMeanSquaredAndHasNoScale) {
  for (int64_t i = 0; i < 100; ++i) {
    const Tensor sums_GE =
        normal_tensor({3, 5}, "sums " + std::to_string(i)).exp() * (i % 2 == 0 ? 1.0 : 1e4);
    const Tensor expected_G =
        sums_GE.var(at::IntArrayRef{1}, /*correction=*/at::Scalar(0)) / sums_GE.mean(1).square();
    ASSERT_TRUE(near(squared_variation(sums_GE), expected_G, 1e-12)) << i;
  }
}

TEST(SquaredVariationTest, C1_TheGradientMatchesDifferencesThroughTheGates) {
  const TensorFunction loss = [](const auto& in) {
    return squared_variation(in[0].softmax(1).view({2, 4, 5}).sum(1));
  };
  EXPECT_TRUE(gradients_match(loss, {normal_tensor({8, 5}, "logits")}));
}

TEST(SquaredVariationTest, C1_AtBalanceTheGradientIsZero) {
  const TensorFunction loss = [](const auto& in) { return squared_variation(in[0]); };
  const Tensor ones_1E = at::ones({1, 4}, at::kDouble);
  EXPECT_TRUE(same(gradients_of(loss, {ones_1E}, at::ones({1}, at::kDouble))[0], 0 * ones_1E));
}

TEST(SquaredVariationTest, ARowOfZerosGivesZeroAndNoGradient) {
  const TensorFunction loss = [](const auto& in) { return squared_variation(in[0]); };
  const Tensor zeros_1E = at::zeros({1, 4}, at::kDouble);
  EXPECT_EQ(squared_variation(zeros_1E).item<double>(), 0);
  EXPECT_TRUE(same(gradients_of(loss, {zeros_1E}, at::ones({1}, at::kDouble))[0], zeros_1E));
}

}  // namespace
}  // namespace switchyard
