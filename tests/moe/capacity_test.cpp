#include "moe/capacity.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, K experts per token.

namespace switchyard {
namespace {

using at::Tensor;

constexpr Priority kAllPriorities[] = {Priority::kPosition, Priority::kChoice,
                                       Priority::kProbability, Priority::kProbabilitySum,
                                       Priority::kRandom};

CapacityConfig rounding(const std::string& word, bool counts_k, int64_t min,
                        int64_t multiple_of = 1) {
  CapacityConfig capacity;
  capacity.round = word;
  capacity.counts_k = counts_k;
  capacity.min = min;
  capacity.multiple_of = multiple_of;
  return capacity;
}

TEST(ExpertCapacityTest, MeshTensorFlowTruncatesWithoutKAndHasAMinimum) {
  const CapacityConfig mesh = rounding("floor", /*counts_k=*/false, /*min=*/4);
  EXPECT_EQ(expert_capacity(mesh, 1.25, 128, 8, 2), 20);
  EXPECT_EQ(expert_capacity(mesh, 1.25, 100, 8, 2), 15);  // 15.625
  EXPECT_EQ(expert_capacity(mesh, 2.0, 8, 8, 2), 4);
}

TEST(ExpertCapacityTest, FlaxformerRoundsHalvesToEvenWithoutK) {
  EXPECT_EQ(expert_capacity(rounding("nearest", false, 4), 1.25, 100, 8, 2), 16);  // 15.625
  EXPECT_EQ(expert_capacity(rounding("nearest", false, 1), 1.0, 20, 8, 2), 2);     // 2.5
  EXPECT_EQ(expert_capacity(rounding("nearest", false, 1), 1.0, 28, 8, 2), 4);     // 3.5
}

TEST(ExpertCapacityTest, VMoeRoundsUpToAMultipleOfFour) {
  const CapacityConfig vmoe = rounding("ceil", true, 1, 4);
  EXPECT_EQ(expert_capacity(vmoe, 1.05, 100, 8, 2), 28);  // 26.25
  EXPECT_EQ(expert_capacity(vmoe, 1.0, 96, 8, 2), 24);
  EXPECT_EQ(expert_capacity(vmoe, 1.0, 97, 8, 2), 28);
}

TEST(ExpertCapacityTest, FairseqsTwiceTheCeilingIsAMultipleOfTwo) {
  const CapacityConfig fairseq = rounding("ceil", true, 1, 2);
  for (int64_t S = 1; S <= 40; ++S) {
    for (int64_t E = 1; E <= 9; ++E) {
      EXPECT_EQ(expert_capacity(fairseq, 1.0, S, E, 2), 2 * ((S + E - 1) / E)) << S << " " << E;
    }
  }
}

TEST(ExpertCapacityTest, MegatronRoundsUpWithKAndMegaBlocksDown) {
  EXPECT_EQ(expert_capacity(rounding("ceil", true, 1), 1.25, 100, 16, 2), 16);   // 15.625
  EXPECT_EQ(expert_capacity(rounding("floor", true, 1), 1.25, 100, 16, 2), 15);  // 15.625
}

TEST(ExpertCapacityTest, TheMinimumComesBeforeTheMultiple) {
  EXPECT_EQ(expert_capacity(rounding("ceil", true, 5, 4), 1.0, 8, 8, 1), 8);
  EXPECT_EQ(expert_capacity(rounding("ceil", true, 4, 1), 0.01, 8, 8, 1), 4);
}

// The factor is a decimal that a user wrote: 1.1 * 110 / 11 is 11, whatever
// 1.1 is in binary.
TEST(ExpertCapacityTest, DecimalFactorsRoundAsDecimals) {
  for (int64_t hundredths = 1; hundredths <= 250; ++hundredths) {
    const double factor = static_cast<double>(hundredths) / 100;
    for (const int64_t tokens : {7, 30, 64, 100, 110, 250, 1000}) {
      for (const int64_t E : {1, 3, 5, 8, 11, 64}) {
        const int64_t exact = hundredths * tokens, unit = 100 * E;
        EXPECT_EQ(expert_capacity(rounding("ceil", true, 0), factor, tokens, E, 1),
                  (exact + unit - 1) / unit)
            << factor << " * " << tokens << " / " << E;
        EXPECT_EQ(expert_capacity(rounding("floor", true, 0), factor, tokens, E, 1), exact / unit)
            << factor << " * " << tokens << " / " << E;
      }
    }
  }
}

/// What is kept of `kept_TK` (all, when undefined) under one slot count.
Tensor drop(const Tensor& experts_TK, int64_t E, int64_t capacity, Priority priority,
            const TokenContext& context, Tensor probs_TK = {}, Tensor kept_TK = {}) {
  if (!probs_TK.defined()) probs_TK = at::ones(experts_TK.sizes());
  kept_TK = kept_TK.defined() ? kept_TK.clone() : at::ones(experts_TK.sizes(), at::kBool);
  drop_over_capacity(experts_TK, probs_TK, E, capacity, priority, /*layer=*/0, context, kept_TK);
  return kept_TK;
}

Tensor pairs(std::vector<int64_t> values) { return at::tensor(values, at::kLong).view({-1, 2}); }

/// Random distinct choices of each token, in order of their probabilities.
struct Choices {
  Tensor experts_TK, probs_TK;
};
Choices sample_choices(int64_t T, int64_t E, int64_t K, const char* name = "logits") {
  const Tensor probs_TE = normal_tensor({T, E}, name, at::kFloat).softmax(1);
  auto [probs_TK, experts_TK] = probs_TE.topk(K, 1);
  return {experts_TK, probs_TK};
}

TEST(DropOverCapacityTest, C3_PositionServesTokenByToken) {
  const Tensor experts_TK = pairs({0, 1, 1, 0, 0, 2, 2, 1});
  EXPECT_TRUE(same(drop(experts_TK, 3, 1, Priority::kPosition, context_of(1, 4)),
                   bools({1, 1, 0, 0, 0, 1, 0, 0}).view({4, 2})));
  EXPECT_TRUE(same(drop(experts_TK, 3, 2, Priority::kPosition, context_of(1, 4)),
                   bools({1, 1, 1, 1, 0, 1, 1, 0}).view({4, 2})));
}

TEST(DropOverCapacityTest, C2_ChoiceServesFirstChoicesBeforeSecondOnes) {
  const Tensor experts_TK = pairs({0, 1, 1, 0, 0, 2, 2, 1});
  EXPECT_TRUE(same(drop(experts_TK, 3, 1, Priority::kChoice, context_of(1, 4)),
                   bools({1, 0, 1, 0, 0, 0, 1, 0}).view({4, 2})));
}

TEST(DropOverCapacityTest, R1_ProbabilityServesTheHighestFirstChoiceFirst) {
  const Tensor experts_TK = pairs({0, 1, 1, 0, 0, 2, 2, 1});
  const Tensor probs_TK =
      at::tensor({0.5, 0.1, 0.4, 0.3, 0.9, 0.05, 0.8, 0.2}, at::kFloat).view({4, 2});
  // Order of tokens: 2 3 0 1. First choices 0 2 (0) 1, then no slot is left.
  EXPECT_TRUE(same(drop(experts_TK, 3, 1, Priority::kProbability, context_of(1, 4), probs_TK),
                   bools({0, 0, 1, 0, 1, 0, 1, 0}).view({4, 2})));
  // Two slots: first choices all; seconds in the order 2 3 0 1: 2 yes, 1 yes, 1 no, 0 no.
  EXPECT_TRUE(same(drop(experts_TK, 3, 2, Priority::kProbability, context_of(1, 4), probs_TK),
                   bools({1, 0, 1, 0, 1, 1, 1, 1}).view({4, 2})));
}

TEST(DropOverCapacityTest, R1_EqualProbabilitiesGoByPosition) {
  const Tensor experts_TK = at::zeros({5, 1}, at::kLong);
  EXPECT_TRUE(same(drop(experts_TK, 2, 3, Priority::kProbability, context_of(1, 5)),
                   bools({1, 1, 1, 0, 0}).view({5, 1})));
}

TEST(DropOverCapacityTest, RandomKeepsEachPositionAlike) {
  // 2000 groups of 5 tokens, all to one expert with 2 slots.
  const Tensor kept_BS =
      drop(at::zeros({10000, 1}, at::kLong), 1, 2, Priority::kRandom, context_of(2000, 5))
          .view({2000, 5})
          .to(at::kDouble);
  EXPECT_TRUE(same(kept_BS.sum(1), at::full({2000}, 2.0, at::kDouble)));
  const double sigma = std::sqrt(0.4 * 0.6 / 2000);
  for (int64_t s = 0; s < 5; ++s) {
    EXPECT_NEAR(kept_BS.select(1, s).mean().item<double>(), 0.4, 3 * sigma) << s;
  }
}

TEST(DropOverCapacityTest, C3_EveryPriorityDropsWhatIsOverCapacity) {
  const auto [experts_TK, probs_TK] = sample_choices(60, 4, 2);
  const Tensor count_E = at::bincount(experts_TK.flatten(), {}, 4);
  for (const int64_t capacity : {0, 1, 20, 28, 31, 60}) {
    const int64_t over = (count_E - capacity).clamp_min(0).sum().item<int64_t>();
    for (const Priority priority : kAllPriorities) {
      const Tensor kept_TK = drop(experts_TK, 4, capacity, priority, context_of(1, 60), probs_TK);
      EXPECT_EQ(kept_TK.logical_not().sum().item<int64_t>(), over);
      const Tensor kept_E = at::bincount(experts_TK.masked_select(kept_TK), {}, 4);
      EXPECT_TRUE(same(kept_E, count_E.clamp_max(capacity)));
    }
  }
}

TEST(DropOverCapacityTest, NothingIsDroppedWhenTheGroupFits) {
  const auto [experts_TK, probs_TK] = sample_choices(60, 4, 2);
  for (const Priority priority : kAllPriorities) {
    EXPECT_TRUE(drop(experts_TK, 4, 60, priority, context_of(1, 60), probs_TK).all().item<bool>());
    EXPECT_TRUE(
        drop(experts_TK, 4, 100000, priority, context_of(1, 60), probs_TK).all().item<bool>());
  }
}

TEST(DropOverCapacityTest, GroupsAreIndependent) {
  const auto [experts_TK, probs_TK] = sample_choices(60, 4, 2);
  for (const Priority priority : kAllPriorities) {
    const Tensor whole_TK = drop(experts_TK, 4, 6, priority, context_of(3, 20), probs_TK);
    for (int64_t g = 0; g < 3; ++g) {
      const Tensor alone_TK = drop(experts_TK.narrow(0, 20 * g, 20).contiguous(), 4, 6, priority,
                                   context_of(1, 20, g), probs_TK.narrow(0, 20 * g, 20));
      EXPECT_TRUE(same(whole_TK.narrow(0, 20 * g, 20), alone_TK));
    }
  }
}

TEST(DropOverCapacityTest, AGroupMaySpanSequences) {
  TokenContext context = context_of(4, 5);
  context.tokens_per_group = 10;
  const Tensor kept_TK = drop(at::zeros({20, 1}, at::kLong), 2, 3, Priority::kPosition, context);
  EXPECT_TRUE(same(kept_TK.view({2, 10}), bools({1, 1, 1, 0, 0, 0, 0, 0, 0, 0}).repeat({2, 1})));
}

/// Whether what is kept of the first 30 tokens stays when the 30 later ones change.
bool is_causal(Priority priority) {
  const auto [experts_TK, probs_TK] = sample_choices(60, 4, 2);
  const auto [other_experts_TK, other_probs_TK] = sample_choices(60, 4, 2, "other logits");
  const Tensor mixed_experts_TK =
      at::cat({experts_TK.narrow(0, 0, 30), other_experts_TK.narrow(0, 30, 30)});
  const Tensor mixed_probs_TK =
      at::cat({probs_TK.narrow(0, 0, 30), other_probs_TK.narrow(0, 30, 30)});
  bool causal = true;
  for (int64_t capacity = 1; capacity <= 30; ++capacity) {
    const Tensor before = drop(experts_TK, 4, capacity, priority, context_of(1, 60), probs_TK);
    const Tensor after =
        drop(mixed_experts_TK, 4, capacity, priority, context_of(1, 60), mixed_probs_TK);
    causal &= at::equal(before.narrow(0, 0, 30), after.narrow(0, 0, 30));
  }
  return causal;
}

TEST(DropOverCapacityTest, PositionAloneNeverLooksAtLaterTokens) {
  EXPECT_TRUE(is_causal(Priority::kPosition));
  EXPECT_FALSE(is_causal(Priority::kChoice));
  EXPECT_FALSE(is_causal(Priority::kProbability));
  EXPECT_FALSE(is_causal(Priority::kProbabilitySum));
  EXPECT_FALSE(is_causal(Priority::kRandom));
}

TEST(DropOverCapacityTest, R1_ProbabilityKeepsTheBestOfEachExpertInAnyOrder) {
  const auto [experts_TK, probs_TK] = sample_choices(40, 4, 1);
  const Tensor kept_TK =
      drop(experts_TK, 4, 5, Priority::kProbability, context_of(1, 40), probs_TK);
  for (int64_t e = 0; e < 4; ++e) {
    const Tensor chosen = experts_TK == e;
    const Tensor best = std::get<0>(probs_TK.masked_select(chosen).topk(5));
    const Tensor kept = probs_TK.masked_select(chosen & kept_TK);
    EXPECT_TRUE(same(std::get<0>(kept.sort(0, /*descending=*/true)), best));
  }
  const Tensor order = normal_tensor({40}, "order").argsort();
  const auto shuffled = [&](Priority priority) {
    return drop(experts_TK.index_select(0, order), 4, 5, priority, context_of(1, 40),
                probs_TK.index_select(0, order));
  };
  EXPECT_TRUE(same(shuffled(Priority::kProbability), kept_TK.index_select(0, order)));
  const Tensor by_position = drop(experts_TK, 4, 5, Priority::kPosition, context_of(1, 40));
  EXPECT_FALSE(at::equal(shuffled(Priority::kPosition), by_position.index_select(0, order)));
}

// First choices 0 of both tokens, one slot: 0.5 + 0.1 against 0.4 + 0.3.
TEST(DropOverCapacityTest, R1_ProbabilitySumServesTheHighestSumFirst) {
  const Tensor experts_TK = pairs({0, 1, 0, 2});
  const Tensor probs_TK = at::tensor({0.5, 0.1, 0.4, 0.3}, at::kFloat).view({2, 2});
  const TokenContext context = context_of(1, 2);
  EXPECT_TRUE(same(drop(experts_TK, 3, 1, Priority::kProbability, context, probs_TK),
                   bools({1, 1, 0, 1}).view({2, 2})));
  EXPECT_TRUE(same(drop(experts_TK, 3, 1, Priority::kProbabilitySum, context, probs_TK),
                   bools({0, 1, 1, 1}).view({2, 2})));
  // A choice that the router left out adds nothing.
  EXPECT_TRUE(same(drop(experts_TK, 3, 1, Priority::kProbabilitySum, context, probs_TK,
                        bools({1, 1, 1, 0}).view({2, 2})),
                   bools({1, 1, 0, 0}).view({2, 2})));
}

// With two choices an expert keeps its best first choices, then its best second ones;
// who is in a batch counts and not where. By position it is where.
TEST(DropOverCapacityTest, R1_PermutingTheBatchChangesNothing) {
  const auto [experts_TK, probs_TK] = sample_choices(40, 4, 2);
  const Tensor order = normal_tensor({40}, "order").argsort();
  const auto kept = [&](Priority priority) {
    return drop(experts_TK, 4, 12, priority, context_of(1, 40), probs_TK).index_select(0, order);
  };
  const auto permuted = [&](Priority priority) {
    return drop(experts_TK.index_select(0, order), 4, 12, priority, context_of(1, 40),
                probs_TK.index_select(0, order));
  };
  EXPECT_TRUE(same(permuted(Priority::kProbability), kept(Priority::kProbability)));
  EXPECT_TRUE(same(permuted(Priority::kProbabilitySum), kept(Priority::kProbabilitySum)));
  EXPECT_FALSE(at::equal(permuted(Priority::kChoice), kept(Priority::kChoice)));
  EXPECT_FALSE(at::equal(permuted(Priority::kPosition), kept(Priority::kPosition)));
}

// For each expert: all kept first choices before any second one, and of each rank the
// tokens of the highest first probability.
TEST(DropOverCapacityTest, R1_EachExpertKeepsTheHighestPriorities) {
  const auto [experts_TK, probs_TK] = sample_choices(40, 4, 2);
  const Tensor kept_TK =
      drop(experts_TK, 4, 12, Priority::kProbability, context_of(1, 40), probs_TK);
  const Tensor priority_TK =
      probs_TK.narrow(1, 0, 1).expand({40, 2}) - 2 * at::arange(2).unsqueeze(0);
  for (int64_t e = 0; e < 4; ++e) {
    const Tensor asked = experts_TK == e;
    const Tensor kept = priority_TK.masked_select(asked & kept_TK);
    const int64_t n = std::min<int64_t>(12, asked.sum().item<int64_t>());
    const Tensor best = std::get<0>(priority_TK.masked_select(asked).topk(n));
    EXPECT_TRUE(same(std::get<0>(kept.sort(0, /*descending=*/true)), best));
  }
  EXPECT_FALSE(kept_TK.all().item<bool>());
}

TEST(DropOverCapacityTest, R1_WithoutDropsItIsAsWithoutPriorities) {
  const auto [experts_TK, probs_TK] = sample_choices(40, 4, 2);
  const Tensor vanilla_TK = drop(experts_TK, 4, 40, Priority::kPosition, context_of(1, 40));
  for (const Priority priority : {Priority::kProbability, Priority::kProbabilitySum}) {
    EXPECT_TRUE(same(drop(experts_TK, 4, 40, priority, context_of(1, 40), probs_TK), vanilla_TK));
  }
}

TEST(DropOverCapacityTest, WhatIsNotKeptBeforeTakesNoSlot) {
  const Tensor kept_TK = bools({0, 1, 0, 1, 1}).view({5, 1});
  for (const Priority priority : {Priority::kPosition, Priority::kChoice, Priority::kProbability}) {
    EXPECT_TRUE(
        same(drop(at::zeros({5, 1}, at::kLong), 2, 2, priority, context_of(1, 5), {}, kept_TK),
             bools({0, 1, 0, 1, 0}).view({5, 1})));
  }
}

TEST(DropOverCapacityTest, RandomDoesNotKnowTheLayoutAndDrawsAnewElsewhere) {
  const Tensor experts_TK = at::zeros({24, 1}, at::kLong);
  const Tensor whole = drop(experts_TK, 1, 3, Priority::kRandom, context_of(4, 6));
  const Tensor first =
      drop(experts_TK.narrow(0, 0, 6), 1, 3, Priority::kRandom, context_of(1, 6, 0));
  const Tensor rest =
      drop(experts_TK.narrow(0, 6, 18), 1, 3, Priority::kRandom, context_of(3, 6, 1));
  EXPECT_TRUE(same(at::cat({first, rest}), whole));
  EXPECT_FALSE(at::equal(drop(experts_TK, 1, 3, Priority::kRandom, context_of(4, 6, 50)), whole));
}

TEST(DropOverCapacityTest, NoTokensAndGroupsThatDoNotFit) {
  EXPECT_EQ(drop(at::empty({0, 2}, at::kLong), 4, 2, Priority::kChoice, context_of(0, 5)).numel(),
            0);
  EXPECT_THROW(drop(at::zeros({7, 1}, at::kLong), 4, 2, Priority::kPosition, context_of(1, 5)),
               c10::Error);
}

TEST(ParsePriorityTest, ReadsItsNames) {
  EXPECT_EQ(parse_priority("position"), Priority::kPosition);
  EXPECT_EQ(parse_priority("choice"), Priority::kChoice);
  EXPECT_EQ(parse_priority("probability"), Priority::kProbability);
  EXPECT_EQ(parse_priority("probability_sum"), Priority::kProbabilitySum);
  EXPECT_EQ(parse_priority("random"), Priority::kRandom);
  EXPECT_THROW(parse_priority("gate"), c10::Error);
}

}  // namespace
}  // namespace switchyard
