#include "loss/mean_importance.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "support/tensors.h"

// T tokens, G groups, E experts.

namespace switchyard {
namespace {

using at::Tensor;

Tensor of_batch(const Tensor& p_TE) {
  return mean_importance(p_TE.sum(0, /*keepdim=*/true), at::full({1}, p_TE.size(0), at::kDouble));
}

TEST(MeanImportanceTest, D1_IsOneAtBalanceAndEWhenCollapsed) {
  EXPECT_NEAR(of_batch(at::full({6, 8}, 1.0 / 8, at::kDouble)).item<double>(), 1, 1e-12);
  EXPECT_NEAR(of_batch(at::eye(8, at::kDouble)).item<double>(), 1, 1e-12);
  EXPECT_NEAR(of_batch(at::one_hot(at::full({6}, 3, at::kLong), 8).to(at::kDouble)).item<double>(),
              8, 1e-12);
}

// E sum P^2 = 1 + CV^2(P): another form of the same spread.
TEST(MeanImportanceTest, D1_IsOnePlusTheSquaredVariationAndWithinOneAndE) {
  for (int64_t i = 0; i < 100; ++i) {
    const Tensor p_TE = (3 * normal_tensor({4, 6}, "logits " + std::to_string(i))).softmax(1);
    const Tensor mean_E = p_TE.mean(0);
    const double spread = (mean_E - 1.0 / 6).square().mean().item<double>() * 36;
    ASSERT_NEAR(of_batch(p_TE).item<double>(), 1 + spread, 1e-12);
    ASSERT_LE(of_batch(p_TE).item<double>(), 6);
  }
}

TEST(MeanImportanceTest, D1_TheGradientMatchesDifferences) {
  const TensorFunction loss = [](const auto& in) { return of_batch(in[0].softmax(1)); };
  EXPECT_TRUE(gradients_match(loss, {normal_tensor({4, 5}, "logits")}));
}

TEST(MeanImportanceTest, NoTokensGiveZero) {
  EXPECT_EQ(mean_importance(at::zeros({1, 4}), at::zeros({1})).item<double>(), 0);
}

}  // namespace
}  // namespace switchyard
