#include "moe/routers/reinforce_router.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "moe/router_objective.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts.

namespace switchyard {
namespace {

using at::Tensor;

RouterConfig reinforce(double decay = 0.9) {
  RouterConfig config;
  config.type = "reinforce";
  config.reinforce = {/*coef=*/1, decay};
  return config;
}

/// With the identity as gate, so that hidden states are logits.
Routing route(const Tensor& logits_TE, const TokenContext& context) {
  const int64_t E = logits_TE.size(1);
  const RouterTensors tensors{{at::eye(E, logits_TE.options().requires_grad(false))},
                              {at::full({1}, 4.0, at::kFloat)}};
  return ReinforceRouter(reinforce(), place_of(E, E, 1)).route(logits_TE, tensors, context);
}

TEST(ReinforceRouterTest, R6_SamplesFromThePolicyInTraining) {
  constexpr int64_t kTokens = 20000;
  const std::vector<double> probs = {0.05, 0.5, 0.0, 0.15, 0.3};
  const Tensor logits_TE = at::tensor(probs, at::kFloat).log().clamp_min(-1e4).repeat({kTokens, 1});
  const Routing routing = route(logits_TE, context_of(kTokens / 50, 50));
  const Tensor times_E = at::bincount(routing.experts_TK.flatten(), {}, 5);
  for (int64_t e = 0; e < 5; ++e) {
    EXPECT_NEAR(times_E[e].item<double>() / kTokens, probs[e],
                4 * std::sqrt(probs[e] * (1 - probs[e]) / kTokens))
        << e;
  }
  EXPECT_EQ(times_E[2].item<int64_t>(), 0);
}

TEST(ReinforceRouterTest, R6_TakesTheBestInEvaluationAndTheWeightIsOne) {
  for (int64_t c = 0; c < 100; ++c) {
    Tensor logits_TE = normal_tensor({11, 2 + c % 7}, "case " + std::to_string(c), at::kFloat);
    logits_TE[3].zero_();  // a tie goes to the lower expert
    TokenContext context = context_of(1, 11);
    context.mode = Mode::kEval;
    const Routing routing = route(logits_TE, context);
    Tensor best_T = logits_TE.argmax(1);
    best_T[3] = 0;
    EXPECT_TRUE(same(routing.experts_TK.squeeze(1), best_T));
    EXPECT_TRUE(same(routing.weights_TK, at::ones({11, 1})));
    EXPECT_FALSE(routing.log_policy_T.defined());
  }
}

TEST(ReinforceRouterTest, R6_LogPolicyIsThatOfTheChoiceWithItsGradient) {
  const Tensor logits_TE = normal_tensor({12, 4}, "logits");
  const TokenContext context = context_of(2, 6);
  const Routing routing = route(logits_TE, context);
  EXPECT_TRUE(near(routing.log_policy_T,
                   logits_TE.log_softmax(1).gather(1, routing.experts_TK).squeeze(1), 1e-12));
  const TensorFunction f = [&](const auto& in) {
    return route(in[0], context).log_policy_T * at::arange(1, 13, at::kDouble);
  };
  EXPECT_TRUE(gradients_match(f, {logits_TE}, 1e-7));
  // Nothing but the policy has a gradient.
  EXPECT_FALSE(
      route(logits_TE.clone().set_requires_grad(true), context).weights_TK.requires_grad());
}

TEST(ReinforceRouterTest, R6_DrawsDoNotKnowTheLayout) {
  const Tensor logits_TE = 0.3 * normal_tensor({50, 8}, "logits", at::kFloat);
  const Tensor whole = route(logits_TE, context_of(5, 10)).experts_TK;
  const Tensor first = route(logits_TE.narrow(0, 0, 20), context_of(2, 10)).experts_TK;
  const Tensor rest = route(logits_TE.narrow(0, 20, 30), context_of(3, 10, 2)).experts_TK;
  EXPECT_TRUE(same(at::cat({first, rest}), whole));
  EXPECT_FALSE(at::equal(route(logits_TE, context_of(5, 10, 100)).experts_TK, whole));
}

TEST(ReinforceRouterTest, R6_TheBaselineIsARunningMeanThatStartsAtTheUniformLoss) {
  const ReinforceRouter router(reinforce(0.75), place_of(6, 4, 1));
  const NamedState start = router.initial_state();
  ASSERT_EQ(start.size(), 1U);
  EXPECT_EQ(start[0].first, "gate.baseline");
  EXPECT_NEAR(start[0].second.item<float>(), std::log(64.0), 1e-6);
  std::vector<Tensor> state = {at::full({1}, 4.0, at::kFloat)};
  RouterStep step;
  step.loss = 2;
  router.update_state(state, step);
  EXPECT_EQ(state[0].item<float>(), 3.5F);
  step.loss = 6;
  router.update_state(state, step);
  EXPECT_EQ(state[0].item<float>(), 4.125F);
}

RouterRecord record_of(const Tensor& log_policy_T, double baseline) {
  RouterRecord record;
  record.log_policy_T = log_policy_T;
  record.baseline = at::full({1}, baseline, log_policy_T.options().requires_grad(false));
  return record;
}

// All choices of every token, each with its probability: the expected gradient is that of
// the expected loss sum_t sum_e pi_te L_te / N, whatever the baseline.
TEST(RouterObjectiveTest, R6_ItsExpectedGradientIsThatOfTheExpectedLoss) {
  constexpr int64_t kTokens = 6, kExperts = 3;
  constexpr double kStepTokens = 10;
  const Tensor losses_TE = normal_tensor({kTokens, kExperts}, "losses").abs();
  Tensor logits_TE = normal_tensor({kTokens, kExperts}, "logits").set_requires_grad(true);
  ((logits_TE.softmax(1) * losses_TE).sum() / kStepTokens).backward();
  const Tensor expected = logits_TE.grad().clone();
  const Tensor counted_T = at::ones({kTokens}, at::kBool);
  for (const double baseline : {0.0, 0.7, -3.0}) {
    logits_TE.mutable_grad() = Tensor();
    const Tensor probs_TE = logits_TE.detach().softmax(1);
    Tensor total = at::zeros({}, at::kDouble);
    for (int64_t e = 0; e < kExperts; ++e) {
      // The token's own probability of this choice stands in front of its own term.
      for (int64_t t = 0; t < kTokens; ++t) {
        const Tensor one_T = at::arange(kTokens) == t;
        total = total +
                probs_TE[t][e] *
                    router_objective({record_of(logits_TE.log_softmax(1).select(1, e), baseline)},
                                     losses_TE.select(1, e), one_T, kStepTokens);
      }
    }
    total.backward();
    EXPECT_TRUE(near(logits_TE.grad(), expected, 1e-12)) << baseline;
  }
}

// The same by sampling, with the router's own draws.
TEST(RouterObjectiveTest, R6_ItsGradientOverManyDrawsIsThatOfTheExpectedLoss) {
  constexpr int64_t kTokens = 40000, kExperts = 3;
  const Tensor losses_E = at::tensor({1.0, 2.0, 4.0}, at::kDouble);
  Tensor logits_E = at::tensor({0.2, -0.3, 0.5}, at::kDouble).set_requires_grad(true);
  const Tensor p_E = logits_E.detach().softmax(0);
  const Tensor expected_E = p_E * (losses_E - (p_E * losses_E).sum());
  const Routing routing =
      route(logits_E.unsqueeze(0).expand({kTokens, kExperts}), context_of(kTokens / 50, 50));
  RouterRecord record;
  record.log_policy_T = routing.log_policy_T;
  record.baseline = at::full({1}, 2.0, at::kDouble);
  const Tensor losses_T = losses_E.index_select(0, routing.experts_TK.flatten());
  router_objective({record}, losses_T, at::ones({kTokens}, at::kBool), kTokens).backward();
  // A term is at most 2 in size: four standard errors.
  EXPECT_TRUE(near(logits_E.grad(), expected_E, 4 * 2 / std::sqrt(kTokens)));
  EXPECT_GT(expected_E.abs().max().item<double>(), 0.3);
}

TEST(RouterObjectiveTest, R6_ByHandOverLayersAndTargets) {
  Tensor log_policy_T = at::tensor({-1.0, -2.0, -3.0}, at::kFloat).set_requires_grad(true);
  const Tensor losses_T = at::tensor({2.5, 1.0, 9.0}, at::kFloat).set_requires_grad(true);
  RouterRecord silent;  // a layer that does not sample
  // Advantages 3 - loss: 0.5 and 2; the third is no target. -(0.5 * -1 + 2 * -2) = 4.5.
  const Tensor objective =
      router_objective({record_of(log_policy_T, 3), silent, record_of(log_policy_T, 3)}, losses_T,
                       bools({1, 1, 0}), /*step_tokens=*/4);
  EXPECT_NEAR(objective.item<float>(), 4.5 / 4, 1e-6);
  objective.backward();
  EXPECT_TRUE(near(log_policy_T.grad(), at::tensor({-0.5 / 4, -2.0 / 4, 0.0}, at::kFloat), 1e-6));
  EXPECT_FALSE(losses_T.grad().defined());
  EXPECT_EQ(router_objective({silent}, losses_T, bools({1, 1, 1}), 4).item<float>(), 0);
  EXPECT_EQ(router_objective({}, losses_T, bools({1, 1, 1}), 4).item<float>(), 0);
}

TEST(ReinforceRouterTest, R6_NoTokensAndOneExpertOnly) {
  const Routing routing = route(at::zeros({0, 4}), context_of(0, 5));
  EXPECT_EQ(routing.experts_TK.sizes(), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(routing.log_policy_T.sizes(), (std::vector<int64_t>{0}));
  EXPECT_THROW(ReinforceRouter(reinforce(), place_of(6, 4, 2)), ConfigError);
}

}  // namespace
}  // namespace switchyard
