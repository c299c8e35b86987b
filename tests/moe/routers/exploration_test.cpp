#include "moe/routers/exploration.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "moe/routers/topk_router.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, D model width. The gate is the identity unless said otherwise.

namespace switchyard {
namespace {

using at::Tensor;

RouterConfig switch_with(const std::string& exploration) {
  RouterConfig config;
  config.type = "switch";
  config.exploration = exploration;
  return config;
}

Routing route(const RouterConfig& config, const Tensor& logits_TE, const TokenContext& context) {
  const int64_t E = logits_TE.size(1);
  return TopKRouter(config, place_of(E, E, 1))
      .route(logits_TE, {{at::eye(E, logits_TE.options().requires_grad(false))}, {}}, context);
}

TEST(ExplorationTest, C3_SampleDrawsExpertsFromTheProbabilities) {
  constexpr int64_t kTokens = 20000;
  const std::vector<double> probs = {0.1, 0.5, 0.3, 0.1};
  const Tensor probs_TE = at::tensor(probs, at::kFloat).repeat({kTokens, 1});
  const Routing routing =
      route(switch_with("sample"), probs_TE.log(), context_of(kTokens / 50, 50));
  const Tensor times_E = at::bincount(routing.experts_TK.flatten(), {}, 4).to(at::kDouble);
  for (int64_t e = 0; e < 4; ++e) {
    EXPECT_NEAR(times_E[e].item<double>() / kTokens, probs[e],
                4 * std::sqrt(probs[e] * (1 - probs[e]) / kTokens));
  }
  // What was drawn weighs its probability.
  EXPECT_TRUE(near(routing.weights_TK, probs_TE.gather(1, routing.experts_TK), 1e-6));
}

TEST(ExplorationTest, C3_InputDropoutKeepsTheMeanAndZeroesTheGivenShare) {
  RouterConfig config = switch_with("input_dropout");
  config.input_dropout = 0.25;
  const Tensor x_TD = explore_input(at::ones({2000, 20}), config, 0, context_of(40, 50));
  const double zeros = (x_TD == 0).to(at::kDouble).mean().item<double>();
  EXPECT_NEAR(zeros, 0.25, 4 * std::sqrt(0.25 * 0.75 / 40000));
  EXPECT_NEAR(x_TD.masked_select(x_TD != 0).min().item<double>(), 1 / 0.75, 1e-6);
  EXPECT_NEAR(x_TD.max().item<double>(), 1 / 0.75, 1e-6);
}

TEST(ExplorationTest, C3_InputDropoutReachesTheLogits) {
  const RouterConfig config = switch_with("input_dropout");
  const Tensor x_TD = normal_tensor({40, 8}, "x");
  const TokenContext context = context_of(4, 10);
  const Tensor dropped_TD = explore_input(x_TD, config, 0, context);
  EXPECT_FALSE(at::equal(dropped_TD, x_TD));
  EXPECT_TRUE(near(route(config, x_TD, context).logits_TE, dropped_TD, 1e-12));
}

TEST(ExplorationTest, C3_EvaluationTakesTheBest) {
  TokenContext eval = context_of(4, 10);
  eval.mode = Mode::kEval;
  const Tensor logits_TE = normal_tensor({40, 8}, "logits");
  const Routing best = route(switch_with("argmax"), logits_TE, eval);
  for (const char* policy : {"sample", "input_dropout"}) {
    const Routing routing = route(switch_with(policy), logits_TE, eval);
    EXPECT_TRUE(same(routing.experts_TK, best.experts_TK)) << policy;
    EXPECT_TRUE(same(routing.weights_TK, best.weights_TK)) << policy;
    const Routing explored = route(switch_with(policy), logits_TE, context_of(4, 10));
    EXPECT_FALSE(at::equal(explored.experts_TK, best.experts_TK)) << policy;
  }
}

TEST(ExplorationTest, C3_DrawsDoNotKnowTheLayout) {
  const Tensor logits_TE = normal_tensor({24, 8}, "logits");
  for (const char* policy : {"sample", "input_dropout"}) {
    const RouterConfig config = switch_with(policy);
    const Tensor whole = route(config, logits_TE, context_of(4, 6)).experts_TK;
    const Tensor first = route(config, logits_TE.narrow(0, 0, 6), context_of(1, 6, 0)).experts_TK;
    const Tensor rest = route(config, logits_TE.narrow(0, 6, 18), context_of(3, 6, 1)).experts_TK;
    EXPECT_TRUE(same(at::cat({first, rest}), whole));
    EXPECT_FALSE(at::equal(route(config, logits_TE, context_of(4, 6, 50)).experts_TK, whole));
  }
}

TEST(ExplorationTest, C3_GradientsPassThroughBothPolicies) {
  for (const char* policy : {"sample", "input_dropout"}) {
    const TensorFunction f = [&](const auto& in) {
      return route(switch_with(policy), in[0], context_of(2, 4)).weights_TK;
    };
    EXPECT_TRUE(gradients_match(f, {normal_tensor({8, 5}, "logits")}, 1e-7)) << policy;
  }
}

// The policies are Switch's: other routers do not read them.
TEST(ExplorationTest, OtherTypesDoNotExplore) {
  RouterConfig config = switch_with("sample");
  config.type = "topk";
  const Tensor logits_TE = normal_tensor({40, 8}, "logits");
  EXPECT_TRUE(same(route(config, logits_TE, context_of(4, 10)).experts_TK,
                   logits_TE.argmax(1, /*keepdim=*/true)));
}

TEST(ExplorationTest, NoTokens) {
  for (const char* policy : {"sample", "input_dropout"}) {
    EXPECT_EQ(route(switch_with(policy), at::empty({0, 4}), context_of(0, 5)).experts_TK.sizes(),
              (std::vector<int64_t>{0, 1}));
  }
}

}  // namespace
}  // namespace switchyard
