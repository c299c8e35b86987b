#include "loss/mutual_information.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "loss/entropy.h"
#include "support/tensors.h"

// T tokens, G groups, E experts.

namespace switchyard {
namespace {

using at::Tensor;

Tensor of_batch(const Tensor& p_TE) {
  return mutual_information(p_TE.sum(0, /*keepdim=*/true), entropy(p_TE).sum().view({1}),
                            at::full({1}, p_TE.size(0), at::kDouble));
}

TEST(MutualInformationTest, P6_BalancedOneHotIsMinusLnE) {
  EXPECT_NEAR(of_batch(at::eye(8, at::kDouble)).item<double>(), -std::log(8.0), 1e-12);
}

TEST(MutualInformationTest, P6_UniformOrCollapsedIsZero) {
  EXPECT_NEAR(of_batch(at::full({6, 8}, 1.0 / 8, at::kDouble)).item<double>(), 0, 1e-12);
  EXPECT_NEAR(of_batch(at::one_hot(at::full({6}, 3, at::kLong), 8).to(at::kDouble)).item<double>(),
              0, 1e-12);
}

// I(token; expert) as the mean Kullback-Leibler divergence of p_t from the mean.
TEST(MutualInformationTest, P6_IsMinusTheMeanDivergenceAndWithinItsBounds) {
  for (int64_t i = 0; i < 100; ++i) {
    const Tensor p_TE = (3 * normal_tensor({7, 5}, "logits " + std::to_string(i))).softmax(1);
    const Tensor divergence = (p_TE * (p_TE / p_TE.mean(0, true)).log()).sum(1).mean();
    const double loss = of_batch(p_TE).item<double>();
    ASSERT_NEAR(loss, -divergence.item<double>(), 1e-12);
    ASSERT_GE(loss, -std::log(5.0));
    ASSERT_LE(loss, 0);
  }
}

TEST(MutualInformationTest, P6_TheGradientMatchesDifferences) {
  const TensorFunction loss = [](const auto& in) { return of_batch(in[0].softmax(1)); };
  EXPECT_TRUE(gradients_match(loss, {normal_tensor({4, 5}, "logits")}));
}

TEST(MutualInformationTest, NoTokensGiveZero) {
  EXPECT_EQ(mutual_information(at::zeros({1, 4}), at::zeros({1}), at::zeros({1})).item<double>(),
            0);
}

}  // namespace
}  // namespace switchyard
