#include "loss/entropy.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "support/tensors.h"

// R rows, G groups, E experts.

namespace switchyard {
namespace {

using at::Tensor;

TEST(EntropyTest, IsZeroForOneHotAndLnEForUniform) {
  const Tensor p_RE = at::cat({at::eye(4, at::kDouble), at::full({1, 4}, 0.25, at::kDouble)});
  const Tensor expected_R = at::tensor({0.0, 0.0, 0.0, 0.0, std::log(4.0)}, at::kDouble);
  EXPECT_TRUE(near(entropy(p_RE), expected_R, 1e-12));
}

TEST(EntropyTest, IsTheSumOfTorchsOwnTerms) {
  const Tensor p_RE = normal_tensor({50, 7}, "logits").softmax(1);
  EXPECT_TRUE(near(entropy(p_RE), at::special_entr(p_RE).sum(1), 1e-12));
  const TensorFunction f = [](const auto& in) { return entropy(in[0].softmax(1)); };
  EXPECT_TRUE(gradients_match(f, {normal_tensor({3, 5}, "logits")}));
}

// A softmax that underflows: torch's own entropy has an infinite gradient there.
TEST(EntropyTest, HasAFiniteGradientAtAProbabilityOfZero) {
  Tensor logits_RE = at::tensor({0.0, -200.0, 200.0, 1.0, 2.0, 3.0}, at::kFloat).view({2, 3});
  logits_RE.set_requires_grad(true);
  entropy(logits_RE.softmax(1)).sum().backward();
  EXPECT_TRUE(logits_RE.grad().isfinite().all().item<bool>());
  EXPECT_TRUE(near(logits_RE.grad()[0], at::zeros({3}), 1e-12));
  EXPECT_GT(logits_RE.grad()[1].abs().max().item<float>(), 0.01F);
}

TEST(EntropyTest, ARowOfZerosHasNone) {
  EXPECT_TRUE(same(entropy(at::zeros({2, 3})), at::zeros({2})));
  EXPECT_TRUE(same(entropy(at::zeros({0, 3})), at::zeros({0})));
}

TEST(MeanOfTokensTest, DividesByTheTokensOfEachGroup) {
  const Tensor sums_GE = at::tensor({2.0, 4.0, 0.0, 0.0}, at::kDouble).view({2, 2});
  const Tensor mean_GE = mean_of_tokens(sums_GE, at::tensor({4.0, 0.0}, at::kDouble));
  EXPECT_TRUE(same(mean_GE, at::tensor({0.5, 1.0, 0.0, 0.0}, at::kDouble).view({2, 2})));
  EXPECT_THROW(mean_of_tokens(sums_GE, at::ones({3})), c10::Error);
}

}  // namespace
}  // namespace switchyard
