#include "loss/load_balancing.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/tensors.h"

// T tokens in G routing groups, E experts, K experts per token.

namespace switchyard {
namespace {

using at::Tensor;

constexpr BalanceType kAllTypes[] = {BalanceType::kSwitch, BalanceType::kGShard, BalanceType::kTopK,
                                     BalanceType::kHf};

/// Counts of the choices of G equal groups; padding where valid_T is false.
RoutingCounts count(const Tensor& experts_TK, int64_t groups, int64_t num_experts,
                    const Tensor& valid_T = {}) {
  Tensor chosen_TKE = at::one_hot(experts_TK, num_experts).to(at::kDouble);
  Tensor tokens_T = at::ones({experts_TK.size(0)}, at::kDouble);
  if (valid_T.defined()) {
    chosen_TKE = chosen_TKE * valid_T.view({-1, 1, 1});
    tokens_T = tokens_T * valid_T;
  }
  return {chosen_TKE.sum(1).view({groups, -1, num_experts}).sum(1),
          chosen_TKE.select(1, 0).view({groups, -1, num_experts}).sum(1),
          tokens_T.view({groups, -1}).sum(1)};
}

/// Token t chooses experts t, t + 1, ..., t + K - 1, modulo E.
Tensor round_robin(int64_t T, int64_t E, int64_t K) {
  return (at::arange(T).unsqueeze(1) + at::arange(K).unsqueeze(0)).remainder(E);
}

double mean_loss(BalanceType type, const Tensor& experts_TK, const Tensor& probs_TE,
                 int64_t groups = 1) {
  const RoutingCounts counts = count(experts_TK, groups, probs_TE.size(1));
  const Tensor f_GE = load_fractions(counts, type, experts_TK.size(1));
  return load_balancing_sum(f_GE, probs_TE).item<double>() / static_cast<double>(probs_TE.size(0));
}

TEST(LoadBalancingTest, AtPerfectBalanceIsOneAndKForHf) {
  for (const int64_t K : {1, 2, 4}) {
    const Tensor probs_TE = at::full({64, 8}, 1.0 / 8);
    const Tensor experts_TK = round_robin(64, 8, K);
    EXPECT_NEAR(mean_loss(BalanceType::kSwitch, experts_TK, probs_TE), 1, 1e-6) << K;
    EXPECT_NEAR(mean_loss(BalanceType::kGShard, experts_TK, probs_TE), 1, 1e-6) << K;
    EXPECT_NEAR(mean_loss(BalanceType::kTopK, experts_TK, probs_TE), 1, 1e-6) << K;
    EXPECT_NEAR(mean_loss(BalanceType::kHf, experts_TK, probs_TE), static_cast<double>(K), 1e-6)
        << K;
  }
}

TEST(LoadBalancingTest, AtCollapseIsE) {
  const Tensor probs_TE = at::zeros({64, 8});
  probs_TE.select(1, 3).fill_(1);
  const Tensor experts_TK = at::full({64, 1}, 3, at::kLong);
  for (const BalanceType type : kAllTypes) {
    EXPECT_NEAR(mean_loss(type, experts_TK, probs_TE), 8, 1e-5);
  }
}

// Four tokens, three experts, two choices each:
//   first choices 0 0 1 0: 3/4, 1/4, 0; all choices: 4, 2, 2 of 8
//   probabilities' means P: 0.5, 0.3, 0.2
TEST(LoadBalancingTest, MatchesASmallCaseByHand) {
  const Tensor experts_TK = at::tensor({0, 1, 0, 2, 1, 0, 0, 2}, at::kLong).view({4, 2});
  const Tensor probs_TE = at::tensor({0.6, 0.3, 0.1,  //
                                      0.5, 0.1, 0.4,  //
                                      0.3, 0.7, 0.0,  //
                                      0.6, 0.1, 0.3},
                                     at::kFloat)
                              .view({4, 3});
  const double first = 3 * (0.75 * 0.5 + 0.25 * 0.3), all = 3 * (1.0 * 0.5 + 0.5 * 0.3 + 0.5 * 0.2);
  EXPECT_NEAR(mean_loss(BalanceType::kSwitch, experts_TK, probs_TE), first, 1e-6);
  EXPECT_NEAR(mean_loss(BalanceType::kGShard, experts_TK, probs_TE), first, 1e-6);
  EXPECT_NEAR(mean_loss(BalanceType::kHf, experts_TK, probs_TE), all, 1e-6);
  EXPECT_NEAR(mean_loss(BalanceType::kTopK, experts_TK, probs_TE), all / 2, 1e-6);
}

TEST(LoadBalancingTest, FractionsAreCountsOverTokensInFloat32) {
  const RoutingCounts counts = count(round_robin(6, 4, 2), 2, 4);  // groups 0 1 2 and 3 0 1
  EXPECT_TRUE(near(
      load_fractions(counts, BalanceType::kSwitch, 2),
      at::tensor({1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0}, at::kFloat).view({2, 4}) / 3, 1e-7));
  const Tensor all_GE =
      at::tensor({1.0, 2.0, 2.0, 1.0, 2.0, 2.0, 1.0, 1.0}, at::kFloat).view({2, 4});
  EXPECT_TRUE(near(load_fractions(counts, BalanceType::kHf, 2), all_GE / 3, 1e-7));
  EXPECT_TRUE(near(load_fractions(counts, BalanceType::kTopK, 2), all_GE / 6, 1e-7));
  EXPECT_FALSE(load_fractions(counts, BalanceType::kTopK, 2).requires_grad());
}

TEST(LoadBalancingTest, TheGradientIsETimesTheFraction) {
  const Tensor f_GE = at::tensor({0.5, 0.25, 0.25, 0.0, 0.0, 1.0}, at::kDouble).view({2, 3});
  const Tensor probs_TE = normal_tensor({4, 3}, "logits").softmax(1);
  const TensorFunction loss = [&](const auto& in) { return load_balancing_sum(f_GE, in[0]); };
  const Tensor expected = 3 * f_GE.repeat_interleave(2, 0);
  EXPECT_TRUE(near(gradients_of(loss, {probs_TE}, at::ones({}, at::kDouble))[0], expected, 1e-12));
  EXPECT_TRUE(gradients_match(loss, {probs_TE}));
}

// Through the softmax: dL/dz_e = E p_e (f_e - sum f p), per token.
TEST(LoadBalancingTest, TheGradientReachesTheLogits) {
  const Tensor logits_TE = normal_tensor({5, 4}, "logits");
  const Tensor f_GE = at::tensor({0.4, 0.3, 0.2, 0.1}, at::kDouble).view({1, 4});
  const TensorFunction loss = [&](const auto& in) {
    return load_balancing_sum(f_GE, in[0].softmax(1));
  };
  const Tensor p_TE = logits_TE.softmax(1);
  const Tensor expected = 4 * p_TE * (f_GE - (f_GE * p_TE).sum(1, /*keepdim=*/true));
  EXPECT_TRUE(near(gradients_of(loss, {logits_TE}, at::ones({}, at::kDouble))[0], expected, 1e-12));
}

TEST(LoadBalancingTest, GroupScopeIsTheTokenWeightedMeanOfTheGroups) {
  const Tensor probs_TE = normal_tensor({12, 4}, "logits", at::kFloat).softmax(1);
  const Tensor experts_TK = probs_TE.argsort(1, /*descending=*/true).narrow(1, 0, 2).contiguous();
  for (const BalanceType type : kAllTypes) {
    double weighted = 0;
    for (const int64_t g : {0, 1, 2}) {
      weighted +=
          4.0 * mean_loss(type, experts_TK.narrow(0, 4 * g, 4), probs_TE.narrow(0, 4 * g, 4));
    }
    const double grouped = mean_loss(type, experts_TK, probs_TE, /*groups=*/3);
    EXPECT_NEAR(grouped, weighted / 12, 1e-5);
    EXPECT_GT(std::abs(grouped - mean_loss(type, experts_TK, probs_TE)), 1e-3);
  }
}

TEST(LoadBalancingTest, GroupsOfDifferentTokenCountsWeighByTheirTokens) {
  // 4 valid tokens in the first group, 1 in the second.
  const Tensor valid_T = at::tensor({1, 1, 1, 1, 1, 0, 0, 0}, at::kLong).to(at::kBool);
  const Tensor probs_TE = normal_tensor({8, 4}, "logits", at::kFloat).softmax(1);
  const Tensor experts_TK = probs_TE.argmax(1, /*keepdim=*/true);
  const RoutingCounts counts = count(experts_TK, 2, 4, valid_T);
  const Tensor sum = load_balancing_sum(load_fractions(counts, BalanceType::kSwitch, 1),
                                        probs_TE * valid_T.unsqueeze(1));
  const double first =
      mean_loss(BalanceType::kSwitch, experts_TK.narrow(0, 0, 4), probs_TE.narrow(0, 0, 4));
  const double second =
      mean_loss(BalanceType::kSwitch, experts_TK.narrow(0, 4, 1), probs_TE.narrow(0, 4, 1));
  EXPECT_NEAR(sum.item<double>() / 5, (4 * first + second) / 5, 1e-6);
}

TEST(LoadBalancingTest, AGroupOfPaddingOnlyAddsNothing) {
  const Tensor valid_T = at::tensor({1, 1, 0, 0}, at::kLong).to(at::kBool);
  const RoutingCounts counts = count(round_robin(4, 4, 1), 2, 4, valid_T);
  const Tensor f_GE = load_fractions(counts, BalanceType::kSwitch, 1);
  EXPECT_TRUE(same(f_GE[1], at::zeros({4})));
  const Tensor probs_TE = at::full({4, 4}, 0.25) * valid_T.unsqueeze(1);
  EXPECT_NEAR(load_balancing_sum(f_GE, probs_TE).item<double>(), 2, 1e-6);
}

TEST(LoadBalancingTest, WithOneFractionSplitMicroBatchesAddUpToTheWhole) {
  const Tensor f_GE = at::tensor({0.4, 0.3, 0.2, 0.1}, at::kDouble).view({1, 4});
  const Tensor probs_TE = normal_tensor({10, 4}, "logits").softmax(1);
  const Tensor parts = load_balancing_sum(f_GE, probs_TE.narrow(0, 0, 3)) +
                       load_balancing_sum(f_GE, probs_TE.narrow(0, 3, 7));
  EXPECT_TRUE(near(parts, load_balancing_sum(f_GE, probs_TE), 1e-12));
}

TEST(LoadBalancingTest, WholeGroupsSplitOverMicroBatchesAddUpToTheWhole) {
  const Tensor f_GE = normal_tensor({4, 3}, "fractions").softmax(1);
  const Tensor probs_TE = normal_tensor({8, 3}, "logits").softmax(1);
  const Tensor parts = load_balancing_sum(f_GE.narrow(0, 0, 3), probs_TE.narrow(0, 0, 6)) +
                       load_balancing_sum(f_GE.narrow(0, 3, 1), probs_TE.narrow(0, 6, 2));
  EXPECT_TRUE(near(parts, load_balancing_sum(f_GE, probs_TE), 1e-12));
}

TEST(LoadBalancingTest, NoTokensGiveZero) {
  const RoutingCounts none{at::zeros({1, 4}, at::kDouble), at::zeros({1, 4}, at::kDouble),
                           at::zeros({1}, at::kDouble)};
  for (const BalanceType type : kAllTypes) {
    const Tensor f_GE = load_fractions(none, type, 2);
    EXPECT_TRUE(same(f_GE, at::zeros({1, 4})));
    EXPECT_TRUE(same(load_balancing_sum(f_GE, at::empty({0, 4})), at::zeros({})));
  }
}

TEST(LoadBalancingTest, RefusesGroupsThatDoNotFit) {
  EXPECT_THROW(load_balancing_sum(at::zeros({3, 4}), at::zeros({8, 4})), c10::Error);
  EXPECT_THROW(load_balancing_sum(at::zeros({1, 3}), at::zeros({8, 4})), c10::Error);
}

TEST(LoadBalancingTest, ReadsItsNames) {
  EXPECT_EQ(parse_balance("switch"), BalanceType::kSwitch);
  EXPECT_EQ(parse_balance("gshard"), BalanceType::kGShard);
  EXPECT_EQ(parse_balance("topk"), BalanceType::kTopK);
  EXPECT_EQ(parse_balance("hf"), BalanceType::kHf);
  EXPECT_THROW(parse_balance("Switch"), c10::Error);
}

}  // namespace
}  // namespace switchyard
