#include "moe/routers/sinkhorn_plan.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "support/tensors.h"

// T tokens, E experts.

namespace switchyard {
namespace {

using at::Tensor;

/// The same iteration on exp(z) itself, in float64.
Tensor exponential_domain(const Tensor& logits_TE, int64_t iterations) {
  const int64_t T = logits_TE.size(0), E = logits_TE.size(1);
  std::vector<double> row(T, 1.0), column(E, 1.0);
  const auto z = logits_TE.accessor<double, 2>();
  for (int64_t i = 0; i < iterations; ++i) {
    for (int64_t e = 0; e < E; ++e) {
      double sum = 0;
      for (int64_t t = 0; t < T; ++t) sum += std::exp(z[t][e]) * row[t];
      column[e] = static_cast<double>(T) / static_cast<double>(E) / sum;
    }
    for (int64_t t = 0; t < T; ++t) {
      double sum = 0;
      for (int64_t e = 0; e < E; ++e) sum += std::exp(z[t][e]) * column[e];
      row[t] = 1 / sum;
    }
  }
  return logits_TE.exp() * at::tensor(row, at::kDouble).unsqueeze(1) *
         at::tensor(column, at::kDouble);
}

Tensor leaning(int64_t T, int64_t E) {
  return normal_tensor({T, E}, "logits") + normal_tensor({E}, "leaning");
}

TEST(SinkhornPlanTest, R6_EqualsTheIterationInTheExponentialDomain) {
  for (int64_t i = 0; i < 100; ++i) {
    const int64_t T = 1 + i % 13, E = 1 + i % 6, iterations = 1 + i % 5;
    const Tensor logits_TE = 3 * normal_tensor({T, E}, "case " + std::to_string(i));
    EXPECT_TRUE(near(sinkhorn_plan(logits_TE, iterations),
                     exponential_domain(logits_TE, iterations), 1e-12));
  }
}

TEST(SinkhornPlanTest, R6_RowsAndColumnsSumToTheirMarginals) {
  const Tensor logits_TE = leaning(64, 8);
  double before = 1e9;
  for (const int64_t iterations : {1, 3, 10, 50}) {
    const Tensor plan_TE = sinkhorn_plan(logits_TE, iterations);
    EXPECT_TRUE(near(plan_TE.sum(1), at::ones({64}, at::kDouble), 1e-12));
    const double off = (plan_TE.sum(0) - 8).abs().max().item<double>();
    EXPECT_LT(off, before) << iterations;
    before = off;
  }
  EXPECT_LT(before, 1e-9);
}

// By hand: two tokens alike and two experts, the plan is a half everywhere whatever the
// experts' logits are.
TEST(SinkhornPlanTest, R6_WhatAllTokensLikeIsEvenedOut) {
  const Tensor logits_TE = at::tensor({5., -3., 5., -3.}, at::kDouble).view({2, 2});
  EXPECT_TRUE(near(sinkhorn_plan(logits_TE, 1), at::full({2, 2}, 0.5, at::kDouble), 1e-12));
}

TEST(SinkhornPlanTest, R6_LargeLogitsDoNotOverflow) {
  const Tensor logits_TE = 1000 * normal_tensor({32, 8}, "logits", at::kFloat);
  const Tensor plan_TE = sinkhorn_plan(logits_TE, 3);
  EXPECT_TRUE(plan_TE.isfinite().all().item<bool>());
  EXPECT_TRUE(near(plan_TE.sum(1), at::ones({32}), 1e-3));
}

double max_over_mean(const Tensor& choice_TE) {
  const Tensor loads_E = at::bincount(choice_TE.argmax(1), {}, choice_TE.size(1)).to(at::kDouble);
  return (loads_E.max() / loads_E.mean()).item<double>();
}

TEST(SinkhornPlanTest, R6_Top1OfThePlanIsBalanced) {
  const Tensor even_TE = normal_tensor({4096, 8}, "logits"), leaning_TE = leaning(4096, 8);
  EXPECT_LE(max_over_mean(sinkhorn_plan(even_TE, 3)), 1.2);
  EXPECT_GT(max_over_mean(leaning_TE), 2);
  EXPECT_LE(max_over_mean(sinkhorn_plan(leaning_TE, 3)), 1.2);
}

TEST(SinkhornPlanTest, R6_NoTokensAndOneExpert) {
  EXPECT_EQ(sinkhorn_plan(at::empty({0, 4}), 3).sizes(), (std::vector<int64_t>{0, 4}));
  EXPECT_TRUE(near(sinkhorn_plan(leaning(5, 1), 3), at::ones({5, 1}, at::kDouble), 1e-12));
}

}  // namespace
}  // namespace switchyard
