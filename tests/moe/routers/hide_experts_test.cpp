#include "moe/routers/hide_experts.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "moe/routers/topk_router.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, K of them chosen. The gate is the identity.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t kE = 8;

Tensor hidden(const TokenContext& context, int64_t tokens, double rate, int64_t layer = 0) {
  return hide_experts(at::zeros({tokens, kE}), rate, layer, context).isneginf();
}

/// sigma-MoE: sigmoid scores, not normalised.
Routing route(const Tensor& logits_TE, const TokenContext& context, double rate,
              int64_t top_k = 2) {
  RouterConfig config;
  config.score = "sigmoid";
  config.normalize = false;
  config.expert_dropout = rate;
  return TopKRouter(config, place_of(kE, kE, top_k))
      .route(logits_TE, {{at::eye(kE, logits_TE.options().requires_grad(false))}, {}}, context);
}

TEST(HideExpertsTest, L4_HidesTheGivenShareOfWholeExperts) {
  constexpr int64_t kGroups = 3000;
  const Tensor hidden_TE = hidden(context_of(kGroups, 2), 2 * kGroups, 0.1);
  EXPECT_TRUE(same(hidden_TE.view({kGroups, 2, kE}).select(1, 0),
                   hidden_TE.view({kGroups, 2, kE}).select(1, 1)));
  const double rate = hidden_TE.to(at::kDouble).mean().item<double>();
  EXPECT_NEAR(rate, 0.1, 4 * std::sqrt(0.1 * 0.9 / (kGroups * kE)));
}

TEST(HideExpertsTest, L4_ARoutingGroupOfSeveralSequencesMissesTheSameExperts) {
  TokenContext context = context_of(6, 5);
  context.tokens_per_group = 15;
  const Tensor hidden_GTE = hidden(context, 30, 0.5).view({2, 15, kE});
  EXPECT_TRUE(same(hidden_GTE.all(1), hidden_GTE.any(1)));
  EXPECT_FALSE(at::equal(hidden_GTE[0], hidden_GTE[1]));
}

TEST(HideExpertsTest, L4_IsDrawnForLayersAndInTrainingOnly) {
  TokenContext context = context_of(6, 5);
  EXPECT_FALSE(at::equal(hidden(context, 30, 0.5, 0), hidden(context, 30, 0.5, 1)));
  EXPECT_FALSE(hidden(context, 30, 0.0).any().item<bool>());
  context.mode = Mode::kEval;
  EXPECT_FALSE(hidden(context, 30, 0.5).any().item<bool>());
}

TEST(HideExpertsTest, L4_DoesNotKnowTheLayout) {
  EXPECT_TRUE(
      same(at::cat({hidden(context_of(1, 6, 0), 6, 0.5), hidden(context_of(3, 6, 1), 18, 0.5)}),
           hidden(context_of(4, 6), 24, 0.5)));
}

// The best of what is left, weighed by their plain scores: no rescaling.
TEST(HideExpertsTest, L4_TokensChooseAmongTheOthersWithPlainScores) {
  const Tensor logits_TE = normal_tensor({40, kE}, "logits");
  const TokenContext context = context_of(4, 10);
  const Routing routing = route(logits_TE, context, 0.3);
  const Tensor left_TE =
      logits_TE.masked_fill(hidden(context, 40, 0.3), -std::numeric_limits<double>::infinity());
  const auto [chosen_TK, ids_TK] = left_TE.topk(2, 1);
  EXPECT_TRUE(same(routing.experts_TK, ids_TK));
  EXPECT_TRUE(near(routing.weights_TK, chosen_TK.sigmoid(), 1e-12));
  EXPECT_TRUE(routing.kept_TK.all().item<bool>());
  EXPECT_FALSE(at::equal(ids_TK, std::get<1>(logits_TE.topk(2, 1))));
}

// K = E: exactly the hidden ones are not kept, and weigh nothing.
TEST(HideExpertsTest, L4_HiddenExpertsAreNotKeptWhereTooFewAreLeft) {
  const TokenContext context = context_of(4, 10);
  const Routing routing = route(normal_tensor({40, kE}, "logits"), context, 0.5, kE);
  const Tensor kept_TE =
      at::zeros({40, kE}, at::kBool).scatter(1, routing.experts_TK, routing.kept_TK);
  EXPECT_TRUE(same(kept_TE, hidden(context, 40, 0.5).logical_not()));
  EXPECT_TRUE(same(routing.weights_TK == 0, routing.kept_TK.logical_not()));
}

TEST(HideExpertsTest, L4_TheGradientIsThatOfTheChosenScores) {
  const TokenContext context = context_of(2, 4);
  for (const int64_t K : {2, 8}) {
    const TensorFunction f = [&](const auto& in) {
      return route(in[0], context, 0.4, K).weights_TK;
    };
    EXPECT_TRUE(gradients_match(f, {normal_tensor({8, kE}, "logits")}, 1e-7));
  }
}

TEST(HideExpertsTest, NoTokens) {
  EXPECT_EQ(hidden(context_of(0, 5), 0, 0.5).sizes(), (std::vector<int64_t>{0, kE}));
}

// Capacity writes into kept_TK once the router has returned.
TEST(HideExpertsTest, WhatIsDroppedLaterDoesNotChangeTheGradientOfTheWeights) {
  RouterConfig config;
  config.expert_dropout = 0.3;
  const auto gradient = [&](bool drop) {
    const Tensor logits_TE = normal_tensor({40, kE}, "logits", at::kFloat).set_requires_grad(true);
    const Routing routing = TopKRouter(config, place_of(kE, kE, 2))
                                .route(logits_TE, {{at::eye(kE)}, {}}, context_of(4, 10));
    if (drop) std::fill_n(routing.kept_TK.data_ptr<bool>(), routing.kept_TK.numel(), false);
    (routing.weights_TK * normal_tensor({40, 2}, "upstream", at::kFloat)).sum().backward();
    return logits_TE.grad();
  };
  EXPECT_GT(gradient(false).abs().max().item<double>(), 1e-3);
  EXPECT_TRUE(same(gradient(true), gradient(false)));
}

}  // namespace
}  // namespace switchyard
