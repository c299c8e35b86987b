#include "loss/limoe_entropy.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "loss/entropy.h"
#include "support/tensors.h"

// T tokens, G groups, E experts, tau the threshold.

namespace switchyard {
namespace {

using at::Tensor;

Tensor tokens(double count) { return at::full({1}, count, at::kDouble); }

double global_of(const Tensor& p_TE, double threshold) {
  return global_entropy(p_TE.sum(0, /*keepdim=*/true), tokens(static_cast<double>(p_TE.size(0))),
                        threshold)
      .item<double>();
}

/// p uniform over the first S of 8 experts.
Tensor uniform_over(int64_t S) {
  const Tensor p_TE = at::zeros({6, 8}, at::kDouble);
  p_TE.narrow(1, 0, S).fill_(1.0 / static_cast<double>(S));
  return p_TE;
}

TEST(LimoeEntropyTest, D2_LocalIsZeroForOneHotAndLnEForUniform) {
  const auto local = [](const Tensor& p_TE) {
    return local_entropy(entropy(p_TE).sum().view({1}), tokens(8)).template item<double>();
  };
  EXPECT_NEAR(local(at::eye(8, at::kDouble)), 0, 1e-12);
  EXPECT_NEAR(local(at::full({8, 8}, 1.0 / 8, at::kDouble)), std::log(8.0), 1e-12);
}

TEST(LimoeEntropyTest, D2_GlobalIsMinusLnEForUniformAndZeroWhenCollapsed) {
  EXPECT_NEAR(global_of(uniform_over(8), 0), -std::log(8.0), 1e-12);
  EXPECT_NEAR(global_of(uniform_over(1), 0), 0, 1e-12);
  EXPECT_NEAR(global_of(at::eye(8, at::kDouble), 0), -std::log(8.0), 1e-12);
}

TEST(LimoeEntropyTest, D2_TheThresholdIsWhatIsMissing) {
  EXPECT_NEAR(global_of(uniform_over(1), std::log(4.0)), std::log(4.0), 1e-12);
  EXPECT_NEAR(global_of(uniform_over(2), std::log(4.0)), std::log(2.0), 1e-12);
  EXPECT_EQ(global_of(uniform_over(8), std::log(4.0)), 0);
}

TEST(LimoeEntropyTest, D2_UniformOverSExpertsHasNoLossAndNoGradientAtTauLnS) {
  for (const int64_t S : {2, 4}) {
    const double tau = std::log(static_cast<double>(S));
    const TensorFunction loss = [&](const auto& in) {
      return global_entropy(in[0].sum(0, /*keepdim=*/true), tokens(6), tau);
    };
    EXPECT_EQ(global_of(uniform_over(S), tau), 0);
    EXPECT_TRUE(
        same(gradients_of(loss, {uniform_over(S)}, tokens(1))[0], at::zeros({6, 8}, at::kDouble)));
    // Just above, it pushes.
    EXPECT_GT(global_of(uniform_over(S), tau + 1e-3), 0);
  }
}

TEST(LimoeEntropyTest, D2_AnEmptyModalityGivesZeroAndNoNan) {
  for (const double threshold : {0.0, std::log(3.0)}) {
    const TensorFunction loss = [&](const auto& in) {
      const Tensor masked_TE = in[0] * 0.0;
      return global_entropy(masked_TE.sum(0, /*keepdim=*/true), tokens(0), threshold) +
             local_entropy(entropy(masked_TE).sum().view({1}), tokens(0));
    };
    const Tensor p_TE = normal_tensor({3, 4}, "logits").softmax(1);
    EXPECT_EQ(loss({p_TE}).item<double>(), 0);
    EXPECT_TRUE(same(gradients_of(loss, {p_TE}, tokens(1))[0].abs(), 0 * p_TE));
  }
}

TEST(LimoeEntropyTest, D2_TheGradientsMatchDifferences) {
  const Tensor logits_TE = normal_tensor({5, 4}, "logits");
  for (const double threshold : {0.0, 2.0}) {  // H is at most ln 4: under the threshold
    const TensorFunction loss = [&](const auto& in) {
      const Tensor p_TE = in[0].softmax(1);
      return global_entropy(p_TE.sum(0, /*keepdim=*/true), tokens(5), threshold) +
             0.3 * local_entropy(entropy(p_TE).sum().view({1}), tokens(5));
    };
    EXPECT_TRUE(gradients_match(loss, {logits_TE}));
  }
}

}  // namespace
}  // namespace switchyard
