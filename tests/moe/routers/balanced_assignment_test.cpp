#include "moe/routers/balanced_assignment.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "support/tensors.h"

// T tokens, E experts.

namespace switchyard {
namespace {

using at::Tensor;

Tensor loads(const Tensor& expert_T, int64_t E) { return at::bincount(expert_T, {}, E); }

double value(const Tensor& scores_TE, const Tensor& expert_T) {
  return scores_TE.to(at::kDouble).gather(1, expert_T.unsqueeze(1)).sum().item<double>();
}

double spread(const Tensor& scores_TE) {
  return (scores_TE.max() - scores_TE.min()).item<double>();
}

/// The best sum over all assignments whose loads differ by at most one.
double best_of_all(const Tensor& scores_TE, std::vector<int64_t> room, int64_t larger, int64_t t) {
  if (t == scores_TE.size(0)) return 0;
  double best = -std::numeric_limits<double>::infinity();
  for (int64_t e = 0; e < scores_TE.size(1); ++e) {
    const bool takes_larger = room[e] == 0;
    if (room[e] < 0 || (takes_larger && larger == 0)) continue;
    --room[e];
    best = std::max(best, scores_TE[t][e].item<double>() +
                              best_of_all(scores_TE, room, larger - (takes_larger ? 1 : 0), t + 1));
    ++room[e];
  }
  return best;
}

TEST(BalancedAssignmentTest, R3_LoadsAreExactlyEqualHoweverScoresLean) {
  for (const int64_t E : {2, 4, 8, 64}) {
    const Tensor scores_TE =
        normal_tensor({4 * E, E}, "scores") + 10 * normal_tensor({E}, "leaning");
    const Tensor expert_T = balanced_assignment(scores_TE, 1e-3);
    EXPECT_TRUE(same(loads(expert_T, E), at::full({E}, 4, at::kLong)));
  }
}

// Token 0 gains 4 by expert 0, token 1 gains 6, token 2 gains 1, token 3 loses 1.
TEST(BalancedAssignmentTest, R3_TheBestPairsByHand) {
  const Tensor scores_TE = at::tensor({9., 5., 7., 1., 3., 2., 4., 5.}, at::kDouble).view({4, 2});
  EXPECT_TRUE(same(balanced_assignment(scores_TE, 1e-3), at::tensor({0, 0, 1, 1}, at::kLong)));
}

TEST(BalancedAssignmentTest, R3_WithinEpsilonOfTheBestOfAllAssignments) {
  int64_t uneven = 0;
  for (int64_t i = 0; i < 120; ++i) {
    const int64_t E = 2 + i % 3, T = 1 + (i / 3) % 7;
    Tensor scores_TE = normal_tensor({T, E}, "case " + std::to_string(i));
    if (i % 4 == 0) scores_TE = scores_TE.round();
    const double epsilon = i % 2 == 0 ? 1e-3 : 0.05;
    const Tensor expert_T = balanced_assignment(scores_TE, epsilon);
    const Tensor loads_E = loads(expert_T, E);
    EXPECT_EQ(loads_E.max().item<int64_t>(), (T + E - 1) / E) << i;
    EXPECT_EQ(loads_E.min().item<int64_t>(), T / E) << i;
    const double best = best_of_all(scores_TE, std::vector<int64_t>(E, T / E), T % E, 0);
    EXPECT_GE(value(scores_TE, expert_T) + 1e-12,
              best - epsilon * spread(scores_TE) * static_cast<double>(T))
        << i;
    uneven += T % E != 0 ? 1 : 0;
  }
  EXPECT_GT(uneven, 50);
}

TEST(BalancedAssignmentTest, R3_AShiftOfATokensScoresChangesNothing) {
  const Tensor scores_TE = (normal_tensor({64, 8}, "scores") * 64).round();
  const Tensor shifted_TE = scores_TE + at::arange(0, 64, at::kDouble).view({64, 1}).remainder(5);
  EXPECT_NEAR(value(scores_TE, balanced_assignment(scores_TE, 1e-6)),
              value(scores_TE, balanced_assignment(shifted_TE, 1e-6)), 0.1);
}

TEST(BalancedAssignmentTest, R3_EqualScoresAreDealtOutEvenly) {
  EXPECT_TRUE(
      same(balanced_assignment(at::ones({5, 3}), 1e-3), at::tensor({0, 1, 2, 0, 1}, at::kLong)));
  // Equal for each token, though not the same for all.
  for (const int64_t T : {5, 8, 12, 50}) {
    const Tensor scores_TE = at::arange(T, at::kDouble).unsqueeze(1).expand({T, 8});
    const Tensor loads_E = loads(balanced_assignment(scores_TE, 1e-3), 8);
    EXPECT_LE(loads_E.max().item<int64_t>() - loads_E.min().item<int64_t>(), 1);
  }
}

TEST(BalancedAssignmentTest, R3_WhatIsNotFiniteCountsAsTheSmallestFinite) {
  Tensor scores_TE = normal_tensor({32, 4}, "scores", at::kFloat);
  scores_TE[3][1] = NAN;
  scores_TE[4][2] = INFINITY;
  scores_TE[5].fill_(-INFINITY);
  Tensor expected_TE = scores_TE.clone();
  const float least = scores_TE.nan_to_num(9, 9, 9).min().item<float>();
  expected_TE[3][1] = expected_TE[4][2] = least;
  expected_TE[5].fill_(least);
  EXPECT_TRUE(same(finite_scores(scores_TE), expected_TE));
  const Tensor expert_T = balanced_assignment(scores_TE, 1e-3);
  EXPECT_TRUE(same(expert_T, balanced_assignment(expected_TE, 1e-3)));
  EXPECT_TRUE(same(loads(expert_T, 4), at::full({4}, 8, at::kLong)));
  const Tensor none = balanced_assignment(at::full({8, 4}, NAN), 1e-3);
  EXPECT_TRUE(same(loads(none, 4), at::full({4}, 2, at::kLong)));
}

TEST(BalancedAssignmentTest, R3_NoTokensAndOneExpert) {
  EXPECT_EQ(balanced_assignment(at::empty({0, 4}), 1e-3).numel(), 0);
  EXPECT_TRUE(
      same(balanced_assignment(normal_tensor({5, 1}, "one"), 1e-3), at::zeros({5}, at::kLong)));
}

}  // namespace
}  // namespace switchyard
