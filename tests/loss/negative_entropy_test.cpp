#include "loss/negative_entropy.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "support/tensors.h"

// T tokens, G groups, E experts.

namespace switchyard {
namespace {

using at::Tensor;

Tensor of_batch(const Tensor& p_TE) {
  return negative_entropy(p_TE.sum(0, /*keepdim=*/true), at::full({1}, p_TE.size(0), at::kDouble));
}

TEST(NegativeEntropyTest, L4_IsMinusLnEForUniformAndZeroWhenCollapsed) {
  EXPECT_NEAR(of_batch(at::full({6, 8}, 1.0 / 8, at::kDouble)).item<double>(), -std::log(8.0),
              1e-12);
  EXPECT_NEAR(of_batch(at::one_hot(at::full({6}, 3, at::kLong), 8).to(at::kDouble)).item<double>(),
              0, 1e-12);
  // One-hot and balanced over the tokens: the mean is uniform.
  EXPECT_NEAR(of_batch(at::eye(8, at::kDouble)).item<double>(), -std::log(8.0), 1e-12);
}

// As the released code computes it: from the log of the mean, by log-sum-exp over tokens.
TEST(NegativeEntropyTest, L4_EqualsTheLogDomainForm) {
  for (int64_t i = 0; i < 100; ++i) {
    const Tensor logits_TE = 3 * normal_tensor({9, 5}, "logits " + std::to_string(i));
    const Tensor log_mean_E =
        logits_TE.log_softmax(1).logsumexp(at::IntArrayRef{0}) - std::log(9.0);
    ASSERT_TRUE(near(of_batch(logits_TE.softmax(1)),
                     (log_mean_E.exp() * log_mean_E).sum().view({1}), 1e-12));
  }
}

TEST(NegativeEntropyTest, L4_TheGradientMatchesDifferences) {
  const TensorFunction loss = [](const auto& in) { return of_batch(in[0].softmax(1)); };
  EXPECT_TRUE(gradients_match(loss, {normal_tensor({4, 5}, "logits")}));
}

TEST(NegativeEntropyTest, NoTokensGiveZeroAndNoNan) {
  const TensorFunction loss = [](const auto& in) {
    return negative_entropy(in[0], at::zeros({1}, at::kDouble));
  };
  EXPECT_EQ(loss({at::zeros({1, 4}, at::kDouble)}).item<double>(), 0);
  EXPECT_TRUE(gradients_of(loss, {at::zeros({1, 4}, at::kDouble)}, at::ones({1}, at::kDouble))[0]
                  .isfinite()
                  .all()
                  .item<bool>());
}

}  // namespace
}  // namespace switchyard
