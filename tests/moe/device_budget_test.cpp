#include "moe/device_budget.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "moe/drop_tokens.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts in groups, K experts per token.

namespace switchyard {
namespace {

using at::Tensor;

struct Choices {
  Tensor experts_TK, probs_TK;
};
Choices sample_choices(int64_t T, int64_t E, int64_t K) {
  const Tensor probs_TE =
      (normal_tensor({T, E}, "logits", at::kFloat) + at::linspace(0, 2, E)).softmax(1);
  auto [probs_TK, experts_TK] = probs_TE.topk(K, 1);
  return {experts_TK, probs_TK};
}

Tensor drop(const Choices& choices, const DeviceBudget& budget, const TokenContext& context) {
  Tensor kept_TK = at::ones(choices.experts_TK.sizes(), at::kBool);
  drop_over_device_budget(choices.experts_TK, choices.probs_TK, budget, context, kept_TK);
  return kept_TK;
}

// Four experts in two groups with two slots each. Group 0 is asked for with 0.9, 0.2,
// 0.5 and 0.4: the last two of these in order go; group 1 with 0.6 alone.
TEST(DeviceBudgetTest, R8_TheLowestAffinitiesOfAGroupAreDropped) {
  const Choices choices{at::tensor({0, 1, 1, 2, 0}, at::kLong).view({5, 1}),
                        at::tensor({0.9, 0.2, 0.5, 0.6, 0.4}, at::kFloat).view({5, 1})};
  EXPECT_TRUE(
      same(drop(choices, {4, 2, 2, 0}, context_of(1, 5)), bools({1, 0, 1, 1, 0}).view({5, 1})));
}

TEST(DeviceBudgetTest, R8_OfEqualAffinitiesTheLaterIsDropped) {
  const Choices choices{at::tensor({1, 0, 1, 0}, at::kLong).view({4, 1}), at::full({4, 1}, 0.5)};
  EXPECT_TRUE(
      same(drop(choices, {2, 1, 3, 0}, context_of(1, 4)), bools({1, 1, 1, 0}).view({4, 1})));
}

// Every group keeps min(asked, budget) pairs, none less probable than a dropped one.
TEST(DeviceBudgetTest, R8_EveryGroupKeepsItsBestUpToItsBudget) {
  const Choices choices = sample_choices(60, 8, 3);
  for (const int64_t slots : {1, 7, 20, 45, 180}) {
    const Tensor kept_TK = drop(choices, {8, 4, slots, 0}, context_of(3, 20));
    int64_t dropped = 0;
    for (int64_t g = 0; g < 3; ++g) {
      const Tensor rows = at::arange(20 * g, 20 * (g + 1));
      const Tensor device_TK = at::floor_divide(choices.experts_TK.index_select(0, rows), 2);
      const Tensor probs_TK = choices.probs_TK.index_select(0, rows);
      const Tensor kept = kept_TK.index_select(0, rows);
      for (int64_t d = 0; d < 4; ++d) {
        const Tensor asked = device_TK == d;
        const int64_t n = asked.sum().item<int64_t>();
        const int64_t held = (asked & kept).sum().item<int64_t>();
        EXPECT_EQ(held, std::min(n, slots));
        if (held == n || held == 0) continue;
        dropped += n - held;
        EXPECT_GE(probs_TK.masked_select(asked & kept).min().item<float>(),
                  probs_TK.masked_select(asked & kept.logical_not()).max().item<float>());
      }
    }
    EXPECT_EQ(dropped > 0, slots < 45) << slots;
  }
}

TEST(DeviceBudgetTest, R8_ProtectedSequencesStayWholeAndCountTowardsTheBudget) {
  const Choices choices = sample_choices(120, 8, 2);
  TokenContext context = context_of(12, 10);
  context.tokens_per_group = 60;
  const DeviceBudget budget{8, 4, 12, 0.3};
  const Tensor kept_TK = drop(choices, budget, context);
  int64_t guarded = 0, cut = 0;
  for (int64_t b = 0; b < 12; ++b) {
    const Tensor kept = kept_TK.narrow(0, 10 * b, 10);
    const bool is_guarded = is_protected(b, 0.3, context.seed);
    guarded += is_guarded;
    cut += !kept.all().item<bool>();
    EXPECT_TRUE(!is_guarded || kept.all().item<bool>()) << b;
  }
  EXPECT_GT(guarded, 1);
  EXPECT_GT(cut, 3);
  // A group of experts holds its budget unless protected pairs alone are more.
  for (int64_t g = 0; g < 2; ++g) {
    for (int64_t d = 0; d < 4; ++d) {
      int64_t held = 0, held_guarded = 0, asked = 0;
      for (int64_t t = 60 * g; t < 60 * (g + 1); ++t) {
        for (int64_t k = 0; k < 2; ++k) {
          if (choices.experts_TK[t][k].item<int64_t>() / 2 != d) continue;
          const bool kept = kept_TK[t][k].item<bool>();
          asked += 1;
          held += kept;
          held_guarded += kept && is_protected(t / 10, 0.3, context.seed);
        }
      }
      EXPECT_EQ(held, std::min(asked, std::max<int64_t>(12, held_guarded)));
    }
  }
}

TEST(DeviceBudgetTest, R8_TheGivenShareOfTheSequencesIsProtected) {
  int64_t guarded = 0;
  for (int64_t order = 0; order < 20000; ++order) guarded += is_protected(order, 0.1, 7);
  EXPECT_NEAR(static_cast<double>(guarded) / 20000, 0.1, 4 * std::sqrt(0.09 / 20000));
  EXPECT_FALSE(is_protected(3, 0.0, 7));
  EXPECT_TRUE(is_protected(3, 1.0, 7));
}

TEST(DeviceBudgetTest, R8_DoesNotKnowTheLayout) {
  const Choices choices = sample_choices(60, 8, 2);
  const DeviceBudget budget{8, 4, 5, 0.3};
  const auto part = [&](int64_t from, int64_t sequences) {
    return drop({choices.experts_TK.narrow(0, 10 * from, 10 * sequences).contiguous(),
                 choices.probs_TK.narrow(0, 10 * from, 10 * sequences)},
                budget, context_of(sequences, 10, from));
  };
  EXPECT_TRUE(same(at::cat({part(0, 1), part(1, 3), part(4, 2)}), part(0, 6)));
}

TEST(DeviceBudgetTest, R8_WhatIsNotKeptBeforeTakesNothing) {
  const Choices choices{at::zeros({4, 1}, at::kLong), at::full({4, 1}, 0.5)};
  Tensor kept_TK = bools({0, 1, 0, 1}).view({4, 1});
  drop_over_device_budget(choices.experts_TK, choices.probs_TK, {2, 1, 2, 0}, context_of(1, 4),
                          kept_TK);
  EXPECT_TRUE(same(kept_TK, bools({0, 1, 0, 1}).view({4, 1})));
}

TEST(DeviceBudgetTest, NoTokens) {
  const Choices none{at::empty({0, 2}, at::kLong), at::empty({0, 2})};
  EXPECT_EQ(drop(none, {8, 4, 5, 0.3}, context_of(0, 5)).numel(), 0);
}

/// What drop_tokens leaves of 24 tokens' two choices of 8 experts in 4 groups.
Tensor kept_of_layer(MoeConfig config, Mode mode) {
  config.router.n_group = 4;
  const Choices choices = sample_choices(24, 8, 2);
  Routing routing;
  routing.experts_TK = choices.experts_TK;
  routing.probs_TE = at::zeros({24, 8}).scatter(1, choices.experts_TK, choices.probs_TK);
  routing.weights_TK = choices.probs_TK;
  routing.kept_TK = at::ones({24, 2}, at::kBool);
  TokenContext context = context_of(2, 12);
  context.mode = mode;
  drop_tokens(routing, config, /*layer=*/0, context);
  return routing.kept_TK;
}

// Two groups of 12 tokens: an even load is 12 * 2 / 4 = 6 pairs for a group of experts.
TEST(DeviceBudgetTest, R8_TheLayerTakesTheBudgetOfAnEvenLoadInTrainingOnly) {
  MoeConfig config = sample_moe_config();
  config.capacity.device_factor = 1.0;
  const Tensor expected = drop(sample_choices(24, 8, 2), {8, 4, 6, 0}, context_of(2, 12));
  EXPECT_TRUE(same(kept_of_layer(config, Mode::kTrain), expected));
  EXPECT_FALSE(expected.all().item<bool>());
  EXPECT_TRUE(kept_of_layer(config, Mode::kEval).all().item<bool>());
  config.capacity.protected_fraction = 1.0;
  EXPECT_TRUE(kept_of_layer(config, Mode::kTrain).all().item<bool>());
}

// First an expert's slots, then the budget of what is left.
TEST(DeviceBudgetTest, R8_WorksBesideTheCapacityOfExperts) {
  MoeConfig config = sample_moe_config();
  config.capacity.factor = 1.0;
  config.capacity.min = 1;
  const Tensor slots_TK = kept_of_layer(config, Mode::kTrain);
  config.capacity.device_factor = 0.5;
  Tensor expected_TK = slots_TK.clone();
  const Choices choices = sample_choices(24, 8, 2);
  drop_over_device_budget(choices.experts_TK, choices.probs_TK, {8, 4, 3, 0}, context_of(2, 12),
                          expected_TK);
  EXPECT_TRUE(same(kept_of_layer(config, Mode::kTrain), expected_TK));
  EXPECT_FALSE(at::equal(expected_TK, slots_TK));
}

}  // namespace
}  // namespace switchyard
