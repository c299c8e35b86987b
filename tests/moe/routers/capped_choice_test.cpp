#include "moe/routers/capped_choice.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/tensors.h"

// N tokens, E experts.

namespace switchyard {
namespace {

using at::Tensor;

/// Skewed probabilities: some experts are liked by most tokens.
Tensor skewed(int64_t N, int64_t E, const std::string& name) {
  return (normal_tensor({N, E}, name) + normal_tensor({E}, name + " bias")).softmax(1);
}

Tensor column_sums(const Tensor& x_NE) { return x_NE.to(at::kDouble).sum(0); }
Tensor row_sums(const Tensor& x_NE) { return x_NE.to(at::kDouble).sum(1); }

TEST(CappedChoiceTest, R2_AnExpertTakesItsBestTokensTheEarlierOfEqualOnes) {
  const Tensor scores_NE = at::tensor({.1, .5, .3, .5, .3, .5, .3, .9}, at::kFloat).view({4, 2});
  const Tensor expected_NE = at::tensor({0, 1, 1, 0, 1, 0, 0, 1}, at::kLong).to(at::kBool);
  EXPECT_TRUE(same(best_tokens(scores_NE, 2), expected_NE.view({4, 2})));
  EXPECT_TRUE(same(best_tokens(scores_NE, 4), at::ones({4, 2}, at::kBool)));
}

TEST(CappedChoiceTest, R2_ThePlanObeysItsConstraints) {
  for (const int64_t cap : {2, 3, 5}) {
    const Tensor plan_NE = capped_plan(skewed(64, 8, "plan"), 16, cap);
    EXPECT_TRUE(near(column_sums(plan_NE), at::full({8}, 16.0, at::kDouble), 1e-9));
    EXPECT_GE(plan_NE.min().item<double>(), 0);
    EXPECT_LE(plan_NE.max().item<double>(), 1);
    EXPECT_LE(row_sums(plan_NE).max().item<double>(), static_cast<double>(cap) + 0.25) << cap;
    const Tensor longer_NE = capped_plan(skewed(64, 8, "plan"), 16, cap, {1e-3, 1000});
    EXPECT_LE(row_sums(longer_NE).max().item<double>(), static_cast<double>(cap) + 0.01) << cap;
  }
}

// All three experts want tokens 0 and 1, which may go to two each. Giving up 0.7 of
// token 0 for 0.3 of token 2, and 0.7 of token 1 for 0.2 of token 2, costs least.
TEST(CappedChoiceTest, R2_ThePlanIsTheBestChoiceWhereScoresAreFarApart) {
  const Tensor scores_NE =
      at::tensor({.9, .8, .7, .8, .7, .9, .1, .2, .3, .15, .1, .2}, at::kDouble).view({4, 3});
  const Tensor expected_NE =
      at::tensor({1., 1., 0., 1., 0., 1., 0., 1., 1., 0., 0., 0.}, at::kDouble).view({4, 3});
  EXPECT_TRUE(near(capped_plan(scores_NE, 2, 2), expected_NE, 1e-3));
  EXPECT_TRUE(same(capped_choice(scores_NE, 2, 2), expected_NE.to(at::kBool)));
}

TEST(CappedChoiceTest, R2_TheCapHoldsAndExpertsAreFull) {
  for (int64_t i = 0; i < 100; ++i) {
    const int64_t E = 2 + i % 7, N = 3 + (i * 5) % 40, cap = 1 + i % (E - 1);
    const int64_t capacity = std::min(N, 1 + i % 9);
    Tensor scores_NE = skewed(N, E, "case " + std::to_string(i));
    if (i % 4 == 0) scores_NE = (scores_NE * 8).round() / 8;  // ties
    const Tensor chosen_NE = capped_choice(scores_NE, capacity, cap);
    SCOPED_TRACE(i);
    EXPECT_LE(row_sums(chosen_NE).max().item<double>(), static_cast<double>(cap));
    if (capacity * E <= N * cap) {
      const auto full = static_cast<double>(capacity);
      EXPECT_TRUE(same(column_sums(chosen_NE), at::full({E}, full, at::kDouble)));
    } else {
      EXPECT_LE(column_sums(chosen_NE).max().item<double>(), static_cast<double>(capacity));
      const auto full = static_cast<double>(cap);
      EXPECT_TRUE(same(row_sums(chosen_NE), at::full({N}, full, at::kDouble)));
    }
  }
}

// All experts like the tokens equally, in order: the first taken leave the last expert
// tokens that it already holds, unless another exchanges one.
TEST(CappedChoiceTest, R2_AShortExpertGetsATokenByExchange) {
  for (int64_t cap = 1; cap < 6; ++cap) {
    const Tensor scores_NE = at::ones({6, 6}, at::kDouble) / 6;
    const Tensor chosen_NE = capped_choice(scores_NE, cap, cap);
    EXPECT_TRUE(same(column_sums(chosen_NE), at::full({6}, static_cast<double>(cap), at::kDouble)));
    EXPECT_TRUE(same(row_sums(chosen_NE), at::full({6}, static_cast<double>(cap), at::kDouble)));
  }
}

TEST(CappedChoiceTest, R2_NoCapIsPlainExpertChoice) {
  const Tensor scores_NE = skewed(30, 5, "no cap");
  EXPECT_TRUE(same(capped_choice(scores_NE, 7, 5), best_tokens(scores_NE, 7)));
  // A cap that no token reaches changes nothing either.
  const int64_t most = row_sums(best_tokens(scores_NE, 3)).max().to(at::kLong).item<int64_t>();
  ASSERT_LT(most, 5);
  EXPECT_TRUE(same(capped_choice(scores_NE, 3, most), best_tokens(scores_NE, 3)));
}

TEST(CappedChoiceTest, R2_ScoresThatAreNotFiniteBreakNothing) {
  Tensor scores_NE = skewed(12, 4, "not finite").to(at::kFloat);
  scores_NE[3].fill_(NAN);
  scores_NE[5].fill_(INFINITY);
  const Tensor chosen_NE = capped_choice(scores_NE, 6, 2);
  EXPECT_TRUE(same(column_sums(chosen_NE), at::full({4}, 6.0, at::kDouble)));
  EXPECT_TRUE(same(row_sums(chosen_NE), at::full({12}, 2.0, at::kDouble)));
}

}  // namespace
}  // namespace switchyard
