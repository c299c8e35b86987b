#include "loss/linear_cross_entropy.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "loss/cross_entropy.h"
#include "support/tensors.h"

// Against cross_entropy_sum of all logits, in float64.

namespace switchyard {
namespace {

using at::Tensor;

struct Case {
  int64_t tokens, vocabulary, width;
};

/// None; an odd vocabulary; more tokens than one chunk has.
const std::vector<Case> kCases = {{0, 5, 4}, {1, 2, 2}, {70, 257, 16}, {1100, 130, 8}};

Tensor some_targets(const Case& c) {
  Tensor targets_T = at::arange(c.tokens).remainder(c.vocabulary);
  if (c.tokens > 4) targets_T[4] = kIgnoredTarget;
  return targets_T;
}

void expect_equal(const Case& c, at::ScalarType dtype, double tolerance) {
  Tensor hidden = normal_tensor({c.tokens, c.width}, "hidden", dtype).set_requires_grad(true);
  Tensor head = normal_tensor({c.vocabulary, c.width}, "head", dtype).set_requires_grad(true);
  Tensor hidden_exact = hidden.detach().to(at::kDouble).set_requires_grad(true);
  Tensor head_exact = head.detach().to(at::kDouble).set_requires_grad(true);
  const Tensor targets_T = some_targets(c);
  const LinearCrossEntropy fast = linear_cross_entropy(hidden, head, targets_T);
  const Tensor logits_TV = at::linear(hidden_exact, head_exact);
  const Tensor exact = cross_entropy_sum(logits_TV, targets_T);
  EXPECT_TRUE(near(fast.sum, exact.to(at::kFloat), tolerance));
  EXPECT_TRUE(
      near(fast.losses_T, cross_entropy_of_tokens(logits_TV, targets_T).to(at::kFloat), tolerance));
  (fast.sum / 8).backward();
  (exact / 8).backward();
  EXPECT_TRUE(near(hidden.grad(), hidden_exact.grad().to(dtype), 2 * tolerance));
  EXPECT_TRUE(near(head.grad(), head_exact.grad().to(dtype), 4 * tolerance));
}

TEST(LinearCrossEntropyTest, EqualsThatOfAllLogits) {
  for (const Case& c : kCases) expect_equal(c, at::kFloat, 1e-5);
}

TEST(LinearCrossEntropyTest, InBfloat16TheLogitsAreNotRounded) {
  for (const Case& c : kCases) expect_equal(c, at::kBFloat16, 0x1.0p-7);
}

TEST(LinearCrossEntropyTest, Float64AndOddWidthsAreComposed) {
  const Tensor hidden = normal_tensor({6, 3}, "hidden"), head = normal_tensor({4, 3}, "head");
  const Tensor targets_T = at::arange(6).remainder(4);
  const auto f = [&](const std::vector<Tensor>& in) {
    return linear_cross_entropy(in[0], in[1], targets_T).sum;
  };
  EXPECT_TRUE(gradients_match(f, {hidden, head}));
}

TEST(LinearCrossEntropyTest, WithoutAGraphThereIsOnlyTheValue) {
  const c10::NoGradGuard no_grad;
  const Tensor hidden = normal_tensor({6, 4}, "hidden", at::kFloat).set_requires_grad(true);
  const Tensor head = normal_tensor({5, 4}, "head", at::kFloat);
  const Tensor sum = linear_cross_entropy(hidden, head, at::arange(6).remainder(5)).sum;
  EXPECT_FALSE(sum.requires_grad());
}

TEST(LinearCrossEntropyTest, RefusesATargetThatIsNotInTheVocabulary) {
  const Tensor hidden = at::zeros({2, 4}), head = at::zeros({5, 4});
  for (const int64_t wrong : {-1, 5}) {
    EXPECT_THROW(linear_cross_entropy(hidden, head, at::full({2}, wrong, at::kLong)), c10::Error);
  }
}

TEST(LinearCrossEntropyTest, NanReachesTheLoss) {
  Tensor hidden = at::zeros({3, 4});
  hidden[1][2] = std::numeric_limits<float>::quiet_NaN();
  const Tensor sum = linear_cross_entropy(hidden, at::ones({5, 4}), at::arange(3)).sum;
  EXPECT_TRUE(sum.isnan().item<bool>());
}

}  // namespace
}  // namespace switchyard
