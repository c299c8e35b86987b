#include "moe/routers/gshard_router.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "moe/capacity.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, two choices per token. The gate is the identity, so that
// hidden states are logits, and log probabilities give these very probabilities.

namespace switchyard {
namespace {

using at::Tensor;

RouterConfig gshard(const std::string& policy, const std::string& normalize = "before_drop") {
  RouterConfig config;
  config.type = "gshard";
  config.second_expert_policy = policy;
  config.normalize_gate = normalize;
  return config;
}

Routing route(const RouterConfig& config, const Tensor& probs_TE, const TokenContext& context) {
  const int64_t E = probs_TE.size(1);
  return GShardRouter(config, place_of(E, E, 2))
      .route(probs_TE.log(), identity_weights(probs_TE.size(1)), context);
}

Routing route(const RouterConfig& config, const Tensor& probs_TE) {
  return route(config, probs_TE, context_of(1, probs_TE.size(0)));
}

/// Three tokens whose second gates are 0.3, 0.2 and 0.05, normalised 0.4, 0.25 and 0.05.
Tensor three_tokens() {
  return at::tensor({0.45, 0.3, 0.15, 0.1,  //
                     0.6, 0.2, 0.1, 0.1,    //
                     0.02, 0.9, 0.03, 0.05},
                    at::kFloat)
      .view({3, 4});
}

Tensor sample_probs() { return normal_tensor({50, 8}, "logits", at::kFloat).softmax(1); }

TEST(GShardRouterTest, C2_TakesTheTwoBestAndNormalisesTheirGates) {
  const Tensor probs_TE = sample_probs();
  const Routing routing = route(gshard("all"), probs_TE);
  const auto [gates_TK, ids_TK] = probs_TE.topk(2, 1);
  EXPECT_TRUE(same(routing.experts_TK, ids_TK));
  EXPECT_TRUE(near(routing.weights_TK, gates_TK / gates_TK.sum(1, true), 1e-5));
  EXPECT_TRUE(near(routing.probs_TE, probs_TE, 1e-5));
  EXPECT_TRUE(routing.kept_TK.all().item<bool>());
}

TEST(GShardRouterTest, C2_TheGradientIsThatOfTheNormalisedGates) {
  const Tensor logits_TE = normal_tensor({50, 8}, "logits", at::kFloat);
  const Tensor weight_TK = normal_tensor({50, 2}, "weight of the outputs", at::kFloat);
  const TensorFunction ours = [](const auto& in) {
    return GShardRouter(gshard("all"), place_of(8, 8, 2))
        .route(in[0], identity_weights(8), context_of(1, 50))
        .weights_TK;
  };
  const TensorFunction theirs = [](const auto& in) {
    const Tensor gates_TK = std::get<0>(in[0].softmax(1).topk(2, 1));
    return gates_TK / gates_TK.sum(1, true);
  };
  EXPECT_TRUE(near(gradients_of(ours, {logits_TE}, weight_TK)[0],
                   gradients_of(theirs, {logits_TE}, weight_TK)[0], 1e-5));
}

TEST(GShardRouterTest, NoneKeepsTheFirstAlone) {
  const Tensor probs_TE = sample_probs();
  const Tensor gates_TK = std::get<0>(probs_TE.topk(2, 1));
  const Routing before = route(gshard("none", "before_drop"), probs_TE);
  EXPECT_TRUE(before.kept_TK.select(1, 0).all().item<bool>());
  EXPECT_FALSE(before.kept_TK.select(1, 1).any().item<bool>());
  // The paper: the survivor keeps its share of the two. fairseq: it gets all.
  const Tensor share_T = gates_TK.select(1, 0) / gates_TK.sum(1);
  EXPECT_TRUE(near(kept_weights(before).select(1, 0), share_T, 1e-5));
  const Tensor after_TK = kept_weights(route(gshard("none", "after_drop"), probs_TE));
  EXPECT_TRUE(near(after_TK.select(1, 0), at::ones({50}), 1e-6));
  EXPECT_TRUE(same(after_TK.select(1, 1), at::zeros({50})));
}

TEST(GShardRouterTest, C2_AfterDropEqualsBeforeDropWhenNothingIsDropped) {
  const Tensor probs_TE = sample_probs();
  const Routing after = route(gshard("all", "after_drop"), probs_TE);
  EXPECT_TRUE(near(after.weights_TK, std::get<0>(probs_TE.topk(2, 1)), 1e-5));
  EXPECT_TRUE(near(kept_weights(after), kept_weights(route(gshard("all"), probs_TE)), 1e-5));
}

TEST(GShardRouterTest, ThresholdComparesTheNormalisedGateBeforeDrop) {
  RouterConfig config = gshard("threshold");
  config.second_threshold = 0.3;
  EXPECT_TRUE(same(route(config, three_tokens()).kept_TK.select(1, 1), bools({1, 0, 0})));
  config.second_threshold = 0.2;
  EXPECT_TRUE(same(route(config, three_tokens()).kept_TK.select(1, 1), bools({1, 1, 0})));
}

TEST(GShardRouterTest, ThresholdComparesThePlainProbabilityAfterDrop) {
  RouterConfig config = gshard("threshold", "after_drop");
  config.second_threshold = 0.25;
  EXPECT_TRUE(same(route(config, three_tokens()).kept_TK.select(1, 1), bools({1, 0, 0})));
  config.second_threshold = 0.35;
  EXPECT_TRUE(same(route(config, three_tokens()).kept_TK.select(1, 1), bools({0, 0, 0})));
}

/// Share of `tokens` equal tokens whose second expert `random` keeps.
double keep_rate(double gate2, int64_t tokens) {
  const Tensor probs_TE = at::tensor({1 - gate2, gate2}, at::kFloat).repeat({tokens, 1});
  const Routing routing = route(gshard("random"), probs_TE, context_of(tokens / 50, 50));
  return routing.kept_TK.select(1, 1).to(at::kDouble).mean().item<double>();
}

TEST(GShardRouterTest, C2_RandomKeepsTheSecondWithTwiceItsGate) {
  constexpr int64_t kTokens = 20000;
  for (const double gate2 : {0.02, 0.1, 0.25, 0.4}) {
    const double rate = std::min(1.0, 2 * gate2);
    const double sigma = std::sqrt(rate * (1 - rate) / kTokens);
    EXPECT_NEAR(keep_rate(gate2, kTokens), rate, 3 * sigma) << gate2;
  }
  EXPECT_EQ(keep_rate(0.4999999, 1000), 1);
}

TEST(GShardRouterTest, C2_DrawsDoNotKnowTheLayout) {
  const Tensor probs_TE = sample_probs();
  for (const char* policy : {"random", "sampling"}) {
    const Routing whole = route(gshard(policy), probs_TE, context_of(5, 10));
    const Routing first = route(gshard(policy), probs_TE.narrow(0, 0, 20), context_of(2, 10, 0));
    const Routing rest = route(gshard(policy), probs_TE.narrow(0, 20, 30), context_of(3, 10, 2));
    EXPECT_TRUE(same(at::cat({first.kept_TK, rest.kept_TK}), whole.kept_TK));
    EXPECT_TRUE(same(at::cat({first.experts_TK, rest.experts_TK}), whole.experts_TK));
    // Another place in the run's order draws anew.
    const Routing later = route(gshard(policy), probs_TE, context_of(5, 10, 100));
    EXPECT_FALSE(at::equal(later.kept_TK, whole.kept_TK) &&
                 at::equal(later.experts_TK, whole.experts_TK));
  }
}

TEST(GShardRouterTest, C2_SamplingDrawsTheSecondInProportionToTheOthers) {
  constexpr int64_t kTokens = 20000;
  const std::vector<double> probs = {0.1, 0.5, 0.3, 0.1};
  const Tensor probs_TE = at::tensor(probs, at::kFloat).repeat({kTokens, 1});
  const Routing routing = route(gshard("sampling"), probs_TE, context_of(kTokens / 50, 50));
  EXPECT_TRUE(same(routing.experts_TK.select(1, 0), at::ones({kTokens}, at::kLong)));
  EXPECT_TRUE(routing.kept_TK.all().item<bool>());
  const Tensor times_E = at::bincount(routing.experts_TK.select(1, 1), {}, 4).to(at::kDouble);
  EXPECT_EQ(times_E[1].item<double>(), 0);
  for (const int64_t e : {0, 2, 3}) {
    const double rate = probs[e] / 0.5;
    EXPECT_NEAR(times_E[e].item<double>() / kTokens, rate,
                3 * std::sqrt(rate * (1 - rate) / kTokens));
  }
}

TEST(GShardRouterTest, EvaluationTakesRandomAndSamplingAsAll) {
  const Tensor probs_TE = sample_probs();
  TokenContext eval = context_of(5, 10);
  eval.mode = Mode::kEval;
  const Routing all = route(gshard("all"), probs_TE, eval);
  for (const char* policy : {"random", "sampling"}) {
    const Routing routing = route(gshard(policy), probs_TE, eval);
    EXPECT_TRUE(same(routing.experts_TK, all.experts_TK));
    EXPECT_TRUE(same(routing.kept_TK, all.kept_TK));
    EXPECT_TRUE(same(routing.weights_TK, all.weights_TK));
  }
}

/// Four tokens, two experts, one slot each. Token by token the first choices are
/// 0 1 0 1 and all gates 0.8 and 0.2.
Tensor weights_of_four(const std::string& normalize) {
  const Tensor probs_TE =
      at::tensor({0.8, 0.2, 0.2, 0.8, 0.8, 0.2, 0.2, 0.8}, at::kFloat).view({4, 2});
  const TokenContext context = context_of(1, 4);
  Routing routing = route(gshard("all", normalize), probs_TE, context);
  drop_over_capacity(routing.experts_TK, routing.weights_TK, /*num_experts=*/2, /*capacity=*/1,
                     Priority::kChoice, /*layer=*/0, context, routing.kept_TK);
  EXPECT_TRUE(same(routing.kept_TK, bools({1, 0, 1, 0, 0, 0, 0, 0}).view({4, 2})));
  return kept_weights(routing).detach();
}

TEST(GShardRouterTest, C2_FourTokensTwoExpertsOneSlot) {
  const Tensor kept_TK = at::tensor({1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0}, at::kFloat);
  EXPECT_TRUE(near(weights_of_four("before_drop"), 0.8 * kept_TK.view({4, 2}), 1e-6));
  EXPECT_TRUE(near(weights_of_four("after_drop"), kept_TK.view({4, 2}), 1e-6));
}

// All four first choices are expert 0: one fits, and the free slot of expert 1
// goes to the first second choice that the policy keeps.
TEST(GShardRouterTest, C2_ASecondThatIsNotUsedTakesNoSlot) {
  const Tensor probs_TE =
      at::tensor({0.9, 0.1, 0.6, 0.4, 0.7, 0.3, 0.6, 0.4}, at::kFloat).view({4, 2});
  const TokenContext context = context_of(1, 4);
  Routing routing = route(gshard("threshold"), probs_TE, context);  // 0.1 is below 0.2
  drop_over_capacity(routing.experts_TK, routing.weights_TK, 2, 1, Priority::kChoice, 0, context,
                     routing.kept_TK);
  EXPECT_TRUE(same(routing.kept_TK, bools({1, 0, 0, 1, 0, 0, 0, 0}).view({4, 2})));
}

TEST(GShardRouterTest, NoTokens) {
  for (const char* policy : {"all", "none", "random", "threshold", "sampling"}) {
    const Routing routing = route(gshard(policy), at::empty({0, 4}), context_of(0, 5));
    EXPECT_EQ(routing.experts_TK.sizes(), (std::vector<int64_t>{0, 2}));
    EXPECT_EQ(routing.kept_TK.sizes(), (std::vector<int64_t>{0, 2}));
  }
}

}  // namespace
}  // namespace switchyard
