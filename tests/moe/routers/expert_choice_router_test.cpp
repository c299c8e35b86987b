#include "moe/routers/expert_choice_router.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, K places per token, D model width.

namespace switchyard {
namespace {

using at::Tensor;

RouterConfig expert_choice(double factor, std::optional<int64_t> cap = {}) {
  RouterConfig config;
  config.type = "expert_choice";
  config.expert_choice = {factor, cap};
  return config;
}

Routing route(const RouterConfig& config, const Tensor& x_TD, const Tensor& gate_ED,
              const TokenContext& context) {
  return ExpertChoiceRouter(config, place_of(x_TD.size(1), gate_ED.size(0), 2))
      .route(x_TD, {{gate_ED}, {}}, context);
}

Tensor sample_x(int64_t T) { return normal_tensor({T, 6}, "hidden states", at::kFloat); }
Tensor sample_gate() { return normal_tensor({8, 6}, "gate", at::kFloat); }

/// Weights of the chosen pairs as a table (T, E), zero elsewhere.
Tensor table(const Routing& routing, int64_t E) {
  const int64_t T = routing.experts_TK.size(0);
  return at::zeros({T, E}, routing.weights_TK.scalar_type())
      .scatter(1, routing.experts_TK, kept_weights(routing));
}

Tensor loads(const Routing& routing, int64_t E) {
  return at::bincount(routing.experts_TK.masked_select(routing.kept_TK), {}, E);
}

TEST(ExpertChoiceRouterTest, R2_EveryExpertTakesExactlyCTokensOfEachGroup) {
  for (const double factor : {0.5, 1.0, 2.0, 3.0}) {
    const Tensor x_TD = sample_x(96);
    const auto C = static_cast<int64_t>(std::ceil(24 * factor / 8));
    const Routing routing = route(expert_choice(factor), x_TD, sample_gate(), context_of(4, 24));
    for (int64_t g = 0; g < 4; ++g) {
      const Tensor experts = routing.experts_TK.narrow(0, g * 24, 24);
      const Tensor kept = routing.kept_TK.narrow(0, g * 24, 24);
      EXPECT_TRUE(
          same(at::bincount(experts.masked_select(kept), {}, 8), at::full({8}, C, at::kLong)));
    }
    // The histogram of experts per token: its weighted sum is E C for each group.
    const Tensor per_token_T = routing.kept_TK.sum(1), times_X = at::bincount(per_token_T);
    const Tensor weighted = (times_X * at::arange(times_X.numel(), at::kLong)).sum();
    EXPECT_EQ(weighted.item<int64_t>(), 4 * 8 * C);
    EXPECT_GT(per_token_T.max().item<int64_t>(), per_token_T.min().item<int64_t>());
  }
}

TEST(ExpertChoiceRouterTest, R2_AFactorOfEIsTheDenseMixture) {
  const Routing routing = route(expert_choice(8), sample_x(20), sample_gate(), context_of(2, 10));
  EXPECT_TRUE(routing.kept_TK.all().item<bool>());
  EXPECT_TRUE(same(table(routing, 8), routing.probs_TE));
}

TEST(ExpertChoiceRouterTest, R2_TopKIsTheDefaultFactor) {
  RouterConfig plain;
  plain.type = "expert_choice";
  const Routing ours = route(plain, sample_x(24), sample_gate(), context_of(1, 24));
  const Routing two = route(expert_choice(2), sample_x(24), sample_gate(), context_of(1, 24));
  EXPECT_TRUE(same(ours.kept_TK, two.kept_TK));
  EXPECT_TRUE(same(ours.experts_TK, two.experts_TK));
}

/// The choice as loops: an expert goes through the tokens from its best on.
Tensor by_loops(const Tensor& probs_TE, int64_t group, double factor) {
  const int64_t T = probs_TE.size(0), E = probs_TE.size(1);
  Tensor table_TE = at::zeros({T, E});
  for (int64_t begin = 0; begin < T; begin += group) {
    const double share = static_cast<double>(group) * factor / static_cast<double>(E);
    const int64_t C = std::clamp<int64_t>(static_cast<int64_t>(std::ceil(share)), 1, group);
    for (int64_t e = 0; e < E; ++e) {
      std::vector<std::pair<float, int64_t>> order;  // best first, of equal ones the earlier
      for (int64_t t = begin; t < begin + group; ++t) {
        order.emplace_back(-probs_TE[t][e].item<float>(), t);
      }
      std::sort(order.begin(), order.end());
      for (int64_t i = 0; i < C; ++i) table_TE[order[i].second][e] = -order[i].first;
    }
  }
  return table_TE;
}

TEST(ExpertChoiceRouterTest, R2_EqualsLoopsOnRandomCases) {
  for (int64_t i = 0; i < 100; ++i) {
    const int64_t E = 2 + i % 4, groups = 1 + i % 2, group = 1 + (i * 3) % 7;
    Tensor x_TD = normal_tensor({groups * group, E}, "case " + std::to_string(i), at::kFloat);
    if (i % 3 == 0) x_TD = x_TD.round();  // ties
    const double factor = 0.25 * static_cast<double>(1 + i % (4 * E));
    const Routing routing =
        route(expert_choice(factor), x_TD, at::eye(E), context_of(groups, group));
    EXPECT_TRUE(near(table(routing, E), by_loops(x_TD.softmax(1), group, factor), 1e-6)) << i;
  }
}

TEST(ExpertChoiceRouterTest, R2_ALaterTokenChangesAnEarlierOutput) {
  const Tensor x_TD = sample_x(16);
  const RouterConfig config = expert_choice(1);
  const Tensor before = table(route(config, x_TD, sample_gate(), context_of(1, 16)), 8);
  int64_t leaks = 0;
  for (int64_t t = 0; t + 1 < 16; ++t) {
    Tensor other_TD = x_TD.clone();
    other_TD[t + 1] = 4 * sample_gate()[t % 8];
    const Tensor after = table(route(config, other_TD, sample_gate(), context_of(1, 16)), 8);
    leaks += at::equal(after[t], before[t]) ? 0 : 1;
  }
  EXPECT_GT(leaks, 0);
}

TEST(ExpertChoiceRouterTest, R2_NoTokenIsTakenByMoreExpertsThanTheCap) {
  for (const int64_t cap : {2, 3}) {
    const Routing routing =
        route(expert_choice(2, cap), sample_x(64), sample_gate(), context_of(2, 32));
    EXPECT_EQ(routing.experts_TK.size(1), cap);
    EXPECT_LE(routing.kept_TK.sum(1).max().item<int64_t>(), cap);
    EXPECT_TRUE(same(loads(routing, 8), at::full({8}, 16, at::kLong)));
  }
  const Routing free = route(expert_choice(2), sample_x(64), sample_gate(), context_of(2, 32));
  EXPECT_GT(free.kept_TK.sum(1).max().item<int64_t>(), 3);
}

TEST(ExpertChoiceRouterTest, R2_PaddingIsNotTaken) {
  const Tensor x_TD = sample_x(24);
  TokenContext context = context_of(2, 12);
  context.valid_T = at::ones({24}, at::kBool);
  context.valid_T.narrow(0, 8, 4).fill_(false);
  const Routing routing = route(expert_choice(2), x_TD, sample_gate(), context);
  EXPECT_FALSE(routing.kept_TK.narrow(0, 8, 4).any().item<bool>());
  const Routing alone =
      route(expert_choice(2), x_TD.narrow(0, 0, 8), sample_gate(), context_of(1, 8));
  EXPECT_TRUE(near(table(routing, 8).narrow(0, 0, 8), table(alone, 8), 1e-6));
}

TEST(ExpertChoiceRouterTest, R2_SequencesRoutedInPiecesAreRoutedTheSame) {
  const Tensor x_TD = sample_x(50);
  for (const RouterConfig& config : {expert_choice(1.5), expert_choice(1.5, 2)}) {
    const Routing whole = route(config, x_TD, sample_gate(), context_of(5, 10));
    const Routing first = route(config, x_TD.narrow(0, 0, 20), sample_gate(), context_of(2, 10));
    const Routing rest = route(config, x_TD.narrow(0, 20, 30), sample_gate(), context_of(3, 10, 2));
    EXPECT_TRUE(same(at::cat({first.experts_TK, rest.experts_TK}), whole.experts_TK));
    EXPECT_TRUE(same(at::cat({first.kept_TK, rest.kept_TK}), whole.kept_TK));
  }
}

TEST(ExpertChoiceRouterTest, R2_GradientsAreThoseOfTheSoftmax) {
  for (const RouterConfig& config : {expert_choice(2), expert_choice(2, 3)}) {
    const TensorFunction weights = [&](const std::vector<Tensor>& in) {
      return table(route(config, in[0], in[1], context_of(2, 6)), 4);
    };
    EXPECT_TRUE(
        gradients_match(weights, {normal_tensor({12, 5}, "x"), normal_tensor({4, 5}, "gate")}));
  }
}

TEST(ExpertChoiceRouterTest, R2_NoTokens) {
  for (const RouterConfig& config : {expert_choice(2), expert_choice(2, 3)}) {
    const Routing routing = route(config, at::empty({0, 6}), sample_gate(), context_of(0, 5));
    EXPECT_EQ(routing.experts_TK.size(0), 0);
    EXPECT_EQ(routing.kept_TK.sizes(), routing.weights_TK.sizes());
  }
}

}  // namespace
}  // namespace switchyard
