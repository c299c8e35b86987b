#include "moe/routers/topk_router.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, K experts per token, D model width.

namespace switchyard {
namespace {

using at::Tensor;

Tensor sample_x() { return normal_tensor({40, 6}, "hidden states", at::kFloat); }
Tensor sample_gate() { return normal_tensor({8, 6}, "gate", at::kFloat); }

/// A gate, and a selection bias or none.
struct GateAndBias {
  Tensor gate_ED, bias_E;
};

GateAndBias identity_gate(int64_t num_experts, const Tensor& bias_E = {}) {
  return {at::eye(num_experts), bias_E};
}

Routing route(RouterConfig config, int64_t top_k, const Tensor& x_TD, const GateAndBias& gate) {
  const int64_t E = gate.gate_ED.size(0);
  RouterTensors tensors{{gate.gate_ED}, {}};
  config.selection_bias = gate.bias_E.defined();
  if (config.selection_bias) tensors.state.push_back(gate.bias_E);
  return TopKRouter(config, place_of(x_TD.size(1), E, top_k))
      .route(x_TD, tensors, context_of(1, x_TD.size(0)));
}

RouterConfig sigmoid_config() {
  RouterConfig config;
  config.score = "sigmoid";
  return config;
}

TEST(TopKRouterTest, C8_MixtralWeighsBySoftmaxOfTheChosenLogits) {
  const Routing routing = route({}, 2, sample_x(), {sample_gate(), {}});
  const Tensor logits_TE = at::matmul(sample_x(), sample_gate().t());
  const auto [chosen_TK, ids_TK] = logits_TE.topk(2, 1);
  EXPECT_TRUE(near(routing.logits_TE, logits_TE, 1e-5));
  EXPECT_TRUE(same(routing.experts_TK, ids_TK));
  EXPECT_TRUE(near(routing.weights_TK, chosen_TK.softmax(1), 1e-5));
  EXPECT_TRUE(near(routing.probs_TE, logits_TE.softmax(1), 1e-5));
  EXPECT_TRUE(routing.kept_TK.all().item<bool>());
  EXPECT_FALSE(routing.normalize_after_drop);
}

TEST(TopKRouterTest, C8_TheGradientIsThatOfMixtralsEquation) {
  const Tensor weight_TK = normal_tensor({40, 2}, "weight of the outputs", at::kFloat);
  const TensorFunction ours = [&](const auto& in) {
    return route({}, 2, in[0], {in[1], {}}).weights_TK;
  };
  const TensorFunction theirs = [](const auto& in) {
    return std::get<0>(at::matmul(in[0], in[1].t()).topk(2, 1)).softmax(1);
  };
  const auto actual = gradients_of(ours, {sample_x(), sample_gate()}, weight_TK);
  const auto expected = gradients_of(theirs, {sample_x(), sample_gate()}, weight_TK);
  EXPECT_TRUE(near(actual[0], expected[0], 1e-5));
  EXPECT_TRUE(near(actual[1], expected[1], 1e-5));
}

TEST(TopKRouterTest, L7_DeepSeekMoeWeighsByProbabilitiesOfAllExperts) {
  RouterConfig config;
  config.normalize = false;
  const Routing routing = route(config, 3, sample_x(), {sample_gate(), {}});
  EXPECT_TRUE(same(routing.weights_TK, routing.probs_TE.gather(1, routing.experts_TK)));
  EXPECT_LT(routing.weights_TK.sum(1).max().item<float>(), 1);
}

TEST(TopKRouterTest, C8_AllExpertsChosenGiveTheDenseSoftmax) {
  const Routing routing = route({}, 8, sample_x(), {sample_gate(), {}});
  EXPECT_TRUE(near(routing.weights_TK, routing.probs_TE.gather(1, routing.experts_TK), 1e-6));
}

// Scores of 0.5 everywhere: the bias alone decides, and the weights do not see it.
TEST(TopKRouterTest, R12_TheBiasChoosesAndDoesNotWeigh) {
  const Tensor bias_E = at::tensor({0.0, 0.3, -0.2, 0.1}, at::kFloat);
  const Routing routing = route(sigmoid_config(), 2, at::zeros({3, 4}), identity_gate(4, bias_E));
  EXPECT_TRUE(same(routing.experts_TK, at::tensor({1, 3}, at::kLong).repeat({3, 1})));
  EXPECT_TRUE(near(routing.weights_TK, at::full({3, 2}, 0.5), 1e-6));
  EXPECT_TRUE(near(routing.probs_TE, at::full({3, 4}, 0.25), 1e-6));
}

TEST(TopKRouterTest, R12_DeepSeekV3WeighsByPlainSigmoidsNormalisedThenScaled) {
  RouterConfig config = sigmoid_config();
  config.scaling_factor = 2.5;
  const Tensor bias_E = normal_tensor({8}, "bias", at::kFloat);
  const Routing routing = route(config, 3, sample_x(), {sample_gate(), bias_E});
  const Tensor scores_TE = at::matmul(sample_x(), sample_gate().t()).sigmoid();
  const Tensor ids_TK = std::get<1>((scores_TE + bias_E).topk(3, 1));
  const Tensor chosen_TK = scores_TE.gather(1, ids_TK);
  EXPECT_TRUE(same(routing.experts_TK, ids_TK));
  EXPECT_FALSE(at::equal(ids_TK, std::get<1>(scores_TE.topk(3, 1))));
  EXPECT_TRUE(near(routing.weights_TK, 2.5 * chosen_TK / chosen_TK.sum(1, true), 1e-5));
  EXPECT_TRUE(near(routing.probs_TE, scores_TE / scores_TE.sum(1, true), 1e-5));
}

TEST(TopKRouterTest, R12_TheBiasHasNoGradient) {
  Tensor gate_ED = sample_gate().set_requires_grad(true);
  Tensor bias_E = normal_tensor({8}, "bias", at::kFloat).set_requires_grad(true);
  const Routing routing = route(sigmoid_config(), 3, sample_x(), {gate_ED, bias_E});
  (routing.weights_TK.select(1, 0).sum() + routing.probs_TE.square().sum()).backward();
  EXPECT_FALSE(bias_E.grad().defined());
  EXPECT_GT(gate_ED.grad().abs().sum().item<float>(), 0);
}

TEST(TopKRouterTest, R8_ScalingWithoutNormalising) {
  RouterConfig config;
  config.normalize = false;
  config.scaling_factor = 16;
  const Routing routing = route(config, 2, sample_x(), {sample_gate(), {}});
  EXPECT_TRUE(near(routing.weights_TK, 16 * routing.probs_TE.gather(1, routing.experts_TK), 1e-6));
}

// Four groups of two experts, scores of 0.5, so that s + b is
//   -0.1 -0.2 | -0.5 -0.6 | -0.05 -0.4 | -0.9 -0.01
Routing route_in_groups(const std::string& group_score, int64_t topk_group, int64_t top_k) {
  RouterConfig config = sigmoid_config();
  config.n_group = 4;
  config.topk_group = topk_group;
  config.group_score = group_score;
  const Tensor biased_E =
      at::tensor({-0.1, -0.2, -0.5, -0.6, -0.05, -0.4, -0.9, -0.01}, at::kFloat);
  return route(config, top_k, at::zeros({2, 8}), identity_gate(8, biased_E - 0.5));
}

Tensor twice(std::vector<int64_t> ids) { return at::tensor(ids, at::kLong).repeat({2, 1}); }

TEST(TopKRouterTest, TheSumOfTwoBestChoosesGroupsWithNegativeScores) {
  // Sums -0.3, -1.1, -0.45, -0.91: groups 0 and 2. An excluded expert would win
  // if it counted as 0.
  EXPECT_TRUE(same(route_in_groups("top2_sum", 2, 3).experts_TK, twice({4, 0, 1})));
  EXPECT_TRUE(same(route_in_groups("top2_sum", 2, 4).experts_TK, twice({4, 0, 1, 5})));
  EXPECT_TRUE(same(route_in_groups("top2_sum", 1, 2).experts_TK, twice({0, 1})));
}

TEST(TopKRouterTest, R8_TheLargestChoosesGroupsWithNegativeScores) {
  // Maxima -0.1, -0.5, -0.05, -0.01: groups 3 and 2.
  EXPECT_TRUE(same(route_in_groups("max", 2, 3).experts_TK, twice({7, 4, 5})));
  EXPECT_TRUE(same(route_in_groups("max", 1, 2).experts_TK, twice({7, 6})));
}

TEST(TopKRouterTest, R8_AllGroupsAllowedIsNoLimit) {
  const Tensor expected = twice({7, 4, 0});
  EXPECT_TRUE(same(route_in_groups("max", 4, 3).experts_TK, expected));
  EXPECT_TRUE(same(route_in_groups("top2_sum", 4, 3).experts_TK, expected));
}

TEST(TopKRouterTest, R8_ATokenTouchesAtMostTheAllowedGroups) {
  RouterConfig config;
  config.n_group = 4;
  config.topk_group = 2;
  for (const char* score : {"max", "top2_sum"}) {
    config.group_score = score;
    const Routing routing = route(config, 3, sample_x(), {sample_gate(), {}});
    for (int64_t t = 0; t < 40; ++t) {
      const Tensor groups = at::floor_divide(routing.experts_TK[t], 2);
      EXPECT_LE(std::get<0>(at::_unique(groups)).numel(), 2);
    }
  }
}

TEST(TopKRouterTest, R8_TiedGroupsGoToTheLowerOne) {
  RouterConfig config;
  config.n_group = 4;
  config.topk_group = 2;
  const Routing routing = route(config, 4, at::zeros({2, 8}), identity_gate(8));
  EXPECT_TRUE(same(routing.experts_TK, twice({0, 1, 2, 3})));
}

RouterConfig switch_config() {
  RouterConfig config;
  config.type = "switch";
  config.normalize = true;  // switch does not obey it
  return config;
}

TEST(TopKRouterTest, C3_SwitchWeighsByTheProbabilityAndNeverNormalises) {
  const Routing routing = route(switch_config(), 1, sample_x(), {sample_gate(), {}});
  const Tensor p_TE = at::matmul(sample_x(), sample_gate().t()).softmax(1);
  EXPECT_TRUE(same(routing.experts_TK, p_TE.argmax(1, /*keepdim=*/true)));
  EXPECT_TRUE(near(routing.weights_TK, p_TE.amax(1, /*keepdim=*/true), 1e-5));
}

TEST(TopKRouterTest, C8_SwitchGivesTheRouterAGradientAndNormalisedTop1DoesNot) {
  const auto gradient = [](const RouterConfig& config) {
    Tensor gate_ED = sample_gate().set_requires_grad(true);
    route(config, 1, sample_x(), {gate_ED, {}}).weights_TK.sum().backward();
    return gate_ED.grad().abs().max().item<float>();
  };
  EXPECT_GT(gradient(switch_config()), 0.1F);
  EXPECT_LT(gradient({}), 1e-5F);
}

TEST(TopKRouterTest, RoutesBfloat16InFloat32) {
  const Tensor x_TD = sample_x().to(at::kBFloat16), gate_ED = sample_gate().to(at::kBFloat16);
  const Routing half = route({}, 2, x_TD, {gate_ED, {}});
  const Routing full = route({}, 2, x_TD.to(at::kFloat), {gate_ED.to(at::kFloat), {}});
  EXPECT_TRUE(same(half.logits_TE, full.logits_TE));
  EXPECT_TRUE(same(half.weights_TK, full.weights_TK));
}

TEST(TopKRouterTest, NoTokens) {
  RouterConfig config = sigmoid_config();
  config.n_group = 4;
  config.topk_group = 2;
  const Routing routing = route(config, 2, at::empty({0, 8}), identity_gate(8, at::zeros({8})));
  EXPECT_EQ(routing.experts_TK.sizes(), (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(routing.weights_TK.sizes(), (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(routing.probs_TE.sizes(), (std::vector<int64_t>{0, 8}));
}

TEST(UpdateSelectionBiasTest, R12_MovesByTheSignOfTheMeanMinusTheCount) {
  Tensor bias_E = at::tensor({0.5, 0.0, -0.25, 0.0, 0.0}, at::kFloat);
  const Tensor counts_E = at::tensor({10.0, 20.0, 30.0, 40.0, 25.0}, at::kDouble);  // mean 25
  update_selection_bias(bias_E, counts_E, 0.001);
  EXPECT_TRUE(same(bias_E, at::tensor({0.501, 0.001, -0.251, -0.001, 0.0}, at::kFloat)));
}

TEST(UpdateSelectionBiasTest, R12_BalancedCountsMoveNothing) {
  for (const int64_t E : {3, 7, 49, 60, 127}) {
    Tensor bias_E = at::zeros({E});
    update_selection_bias(bias_E, at::full({E}, 4097.0, at::kDouble), 0.001);
    EXPECT_TRUE(same(bias_E, at::zeros({E}))) << E;
  }
}

// 8 experts whose scores are skewed: without the bias the fullest has far more
// than its share.
TEST(UpdateSelectionBiasTest, R12_BalancesASkewedRouter) {
  MoeConfig config = sample_moe_config(2);
  config.router.score = "sigmoid";
  config.router.selection_bias = true;
  const auto router = make_router(config.router, place_of(8, 8, 2));
  const Tensor skew_E = at::linspace(-1, 1, 8);
  const Tensor logits_TE = normal_tensor({512, 8}, "logits", at::kFloat) + skew_E;
  Tensor bias_E = at::zeros({8});
  const auto counts = [&] {
    const Routing routing = router->route(logits_TE, {{at::eye(8)}, {bias_E}}, context_of(1, 512));
    return at::bincount(routing.experts_TK.flatten(), {}, 8).to(at::kDouble);
  };
  const auto max_violation = [&] {
    const Tensor counts_E = counts();
    return (counts_E.max() / counts_E.mean() - 1).item<double>();
  };
  EXPECT_GT(max_violation(), 0.8);
  for (int step = 0; step < 300; ++step) update_selection_bias(bias_E, counts(), 0.003);
  EXPECT_LT(max_violation(), 0.1);
}

}  // namespace
}  // namespace switchyard
