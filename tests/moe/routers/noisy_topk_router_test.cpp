#include "moe/routers/noisy_topk_router.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "moe/routers/draws.h"
#include "moe/routers/smooth_load.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, D model width, E experts in A groups of B, K of them chosen.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t kD = 5;

struct Mixture {
  int64_t experts = 6, top_k = 2, groups = 1, groups_per_token = 1;
};

NoisyTopKRouter router_of(const Mixture& mixture) {
  RouterConfig config;
  config.type = "noisy_topk";
  config.noisy_topk.groups = mixture.groups;
  config.noisy_topk.groups_per_token = mixture.groups_per_token;
  return {config, place_of(kD, mixture.experts, mixture.top_k)};
}

/// Weights that are not zero, float64.
std::vector<Tensor> sample_weights(const Mixture& mixture) {
  std::vector<Tensor> weights;
  for (const RouterWeight& weight : router_of(mixture).weights()) {
    weights.push_back(normal_tensor(weight.shape, weight.name));
  }
  return weights;
}

Tensor sample_x(int64_t T = 12) { return normal_tensor({T, kD}, "hidden states"); }

Routing route(const Mixture& mixture, const Tensor& x_TD, const std::vector<Tensor>& weights,
              const TokenContext& context) {
  return router_of(mixture).route(x_TD, {weights, {}}, context);
}

TokenContext eval_context(int64_t sequences, int64_t length) {
  TokenContext context = context_of(sequences, length);
  context.mode = Mode::kEval;
  return context;
}

/// CV^2 of the sums over tokens: Var / Mean^2 with the population's variance.
Tensor cv_squared(const Tensor& x_TE) {
  const Tensor sum_E = x_TE.sum(0);
  return sum_E.var(0, /*unbiased=*/false) / sum_E.mean().square();
}

TEST(NoisyTopKRouterTest, C1_WithoutNoiseWeighsBySoftmaxOfTheKeptLogits) {
  const auto weights = sample_weights({});
  const Routing routing = route({}, sample_x(), weights, eval_context(2, 6));
  const Tensor z_TE = at::matmul(sample_x(), weights[0].t());
  const auto [best_TK, ids_TK] = z_TE.topk(2, 1);
  EXPECT_TRUE(same(routing.experts_TK, ids_TK));
  EXPECT_TRUE(near(routing.weights_TK, best_TK.softmax(1), 1e-12));
  EXPECT_TRUE(same(routing.load_TE, hard_load(ids_TK, z_TE)));
  EXPECT_TRUE(routing.kept_TK.all().item<bool>());
}

TEST(NoisyTopKRouterTest, C1_AllExpertsAreTheDenseSoftmax) {
  const Mixture all{6, 6, 1, 1};
  const auto weights = sample_weights(all);
  const Routing routing = route(all, sample_x(), weights, context_of(2, 6));
  EXPECT_TRUE(near(routing.importance_TE, routing.probs_TE, 1e-12));
  EXPECT_TRUE(near(routing.weights_TK, routing.probs_TE.gather(1, routing.experts_TK), 1e-12));
  EXPECT_TRUE(same(routing.load_TE, at::ones({12, 6}, at::kDouble)));
}

TEST(NoisyTopKRouterTest, C1_TheNoiseIsScaledByWhatTheRouterLearns) {
  const auto weights = sample_weights({});
  const TokenContext context = context_of(2, 6);
  const Routing routing = route({}, sample_x(), weights, context);
  const Tensor z_TE = at::matmul(sample_x(), weights[0].t());
  const Tensor sigma_TE = at::softplus(at::matmul(sample_x(), weights[1].t())) + 0.01;
  const Tensor h_TE = z_TE + normal_draws(12, 6, "gate_noise/0", context) * sigma_TE;
  const auto [best_TK, ids_TK] = h_TE.topk(2, 1);
  EXPECT_TRUE(same(routing.experts_TK, ids_TK));
  EXPECT_TRUE(near(routing.weights_TK, best_TK.softmax(1), 1e-12));
  EXPECT_TRUE(near(routing.importance_TE,
                   at::zeros({12, 6}, at::kDouble).scatter(1, ids_TK, best_TK.softmax(1)), 1e-12));
  EXPECT_TRUE(near(routing.load_TE, load_against_others(z_TE, h_TE, sigma_TE, 2), 1e-12));
  EXPECT_TRUE(near(routing.logits_TE, z_TE, 1e-12));
  EXPECT_TRUE(near(routing.probs_TE, h_TE.softmax(1), 1e-12));
}

TEST(NoisyTopKRouterTest, C1_BothMatricesStartAtZeroAndTheNoiseSpreadsTheLoad) {
  for (const Mixture& mixture : {Mixture{8, 2, 1, 1}, Mixture{8, 2, 4, 2}}) {
    RouterTensors start;
    for (const RouterWeight& weight : router_of(mixture).weights()) {
      EXPECT_EQ(weight.init.type, Init::Type::kZeros) << weight.name;
      start.weights.push_back(at::zeros(weight.shape));
    }
    const Tensor x_TD = sample_x(4000).to(at::kFloat);
    const Routing routing = router_of(mixture).route(x_TD, start, context_of(80, 50));
    const Tensor counts_E = at::bincount(routing.experts_TK.flatten(), {}, 8).to(at::kDouble);
    EXPECT_LT((counts_E / 1000 - 1).abs().max().item<double>(), 0.12);
  }
}

TEST(NoisyTopKRouterTest, C1_CoefficientOfVariationIsZeroAtBalance) {
  const Tensor balanced_TE = at::eye(6, at::kDouble).repeat({4, 1});
  EXPECT_EQ(cv_squared(balanced_TE).item<double>(), 0);
  // All on one of 6: mean 1/6, variance (1/6)(5/6): CV^2 = 5.
  const Tensor collapsed_TE = at::eye(6, at::kDouble).narrow(0, 0, 1).repeat({9, 1});
  EXPECT_NEAR(cv_squared(collapsed_TE).item<double>(), 5, 1e-12);
}

const std::vector<Mixture>& mixtures() {
  static const std::vector<Mixture> all = {
      {6, 2, 1, 1}, {6, 1, 1, 1}, {6, 2, 3, 2}, {12, 4, 4, 2}, {6, 2, 2, 1}};
  return all;
}

TEST(NoisyTopKRouterTest, C1_GradientsOfTheGatesAndOfBothLosses) {
  for (const Mixture& mixture : mixtures()) {
    SCOPED_TRACE(std::to_string(mixture.experts) + " experts, " + std::to_string(mixture.groups) +
                 " groups");
    std::vector<Tensor> inputs = {sample_x(8)};
    for (const Tensor& weight : sample_weights(mixture)) inputs.push_back(0.5 * weight);
    const auto part_of = [&](auto part) -> TensorFunction {
      return [&, part](const auto& in) {
        return part(route(mixture, in[0], {in.begin() + 1, in.end()}, context_of(2, 4)));
      };
    };
    EXPECT_TRUE(
        gradients_match(part_of([](const Routing& r) { return r.weights_TK; }), inputs, 1e-6));
    EXPECT_TRUE(
        gradients_match(part_of([](const Routing& r) { return r.probs_TE; }), inputs, 1e-6));
    EXPECT_TRUE(gradients_match(
        part_of([](const Routing& r) { return cv_squared(r.importance_TE); }), inputs, 1e-6));
    EXPECT_TRUE(gradients_match(part_of([](const Routing& r) { return cv_squared(r.load_TE); }),
                                inputs, 1e-6));
  }
}

// In evaluation the load is a count: no gradient, and the noise matrix gets none.
TEST(NoisyTopKRouterTest, C1_TheNoiseMatrixLearnsInTrainingOnly) {
  const auto gradient = [](const TokenContext& context) {
    auto weights = sample_weights({});
    for (Tensor& weight : weights) weight.set_requires_grad(true);
    const Routing routing = route({}, sample_x(), weights, context);
    (routing.weights_TK.square().sum() + routing.load_TE.square().sum()).backward();
    return weights[1].grad();
  };
  EXPECT_GT(gradient(context_of(2, 6)).abs().max().item<double>(), 0);
  const Tensor in_evaluation = gradient(eval_context(2, 6));
  EXPECT_TRUE(!in_evaluation.defined() || in_evaluation.abs().max().item<double>() == 0);
}

// Two groups of two experts, one expert of each: by hand.
TEST(NoisyTopKRouterTest, C1_HierarchicalGatesAreProducts) {
  const Mixture mixture{4, 2, 2, 2};
  std::vector<Tensor> weights;
  for (const RouterWeight& weight : router_of(mixture).weights()) {
    weights.push_back(at::zeros(weight.shape, at::kDouble));
  }
  const auto logits = [](std::vector<double> p) { return at::tensor(p, at::kDouble).log(); };
  weights[0].select(1, 0).copy_(logits({0.9, 0.1, 0.4, 0.6}));
  weights[2].select(1, 0).copy_(logits({0.3, 0.7}));
  Tensor x_TD = at::zeros({1, kD}, at::kDouble);
  x_TD[0][0].fill_(1);
  const Routing routing = route(mixture, x_TD, weights, eval_context(1, 1));
  // Softmax over the one kept expert of a group is 1, so the group's gate remains.
  EXPECT_TRUE(same(routing.experts_TK, at::tensor({3, 0}, at::kLong).view({1, 2})));
  EXPECT_TRUE(near(routing.weights_TK, at::tensor({0.7, 0.3}, at::kDouble).view({1, 2}), 1e-12));
  EXPECT_TRUE(near(routing.importance_TE,
                   at::tensor({0.3, 0.0, 0.0, 0.7}, at::kDouble).view({1, 4}), 1e-12));
  EXPECT_TRUE(near(routing.probs_TE, at::tensor({0.27, 0.03, 0.28, 0.42}, at::kDouble).view({1, 4}),
                   1e-12));
}

TEST(NoisyTopKRouterTest, C1_HierarchicalChoosesInTheChosenGroupsOnly) {
  const Mixture mixture{12, 4, 4, 2};
  const Routing routing = route(mixture, sample_x(40), sample_weights(mixture), context_of(4, 10));
  for (int64_t t = 0; t < 40; ++t) {
    const Tensor groups_K = at::floor_divide(routing.experts_TK[t], 3);
    EXPECT_EQ(std::get<0>(at::_unique(groups_K)).numel(), 2);
    EXPECT_EQ(std::get<0>(at::_unique(routing.experts_TK[t])).numel(), 4);
  }
  EXPECT_TRUE(near(routing.weights_TK.sum(1), at::ones({40}, at::kDouble), 1e-12));
  EXPECT_TRUE((routing.weights_TK.diff(1, 1) <= 0).all().item<bool>());
}

// Load_H(X)_ij = Load_primary(X)_i Load_i(X_i)_j / |X_i|, X a routing group, with plain
// loops over its tokens.
TEST(NoisyTopKRouterTest, C1_HierarchicalLoadSumsToTheAppendixsFormula) {
  const Mixture mixture{6, 2, 3, 2};
  constexpr int64_t A = 3, B = 2, S = 5;
  const auto weights = sample_weights(mixture);
  TokenContext context = context_of(4, S);
  context.valid_T = at::arange(20).remainder(4) != 1;
  const Tensor x_TD = sample_x(20);
  const Tensor load_TE = route(mixture, x_TD, weights, context).load_TE;
  const auto product = [&](size_t w) { return at::matmul(x_TD, weights[w].t()); };
  const Tensor sigma1_TA = at::softplus(product(3)) + 0.01,
               sigma2_TE = at::softplus(product(1)) + 0.01;
  const Tensor h1_TA = product(2) + normal_draws(20, A, "group_gate_noise/0", context) * sigma1_TA;
  const Tensor h2_TE = product(0) + normal_draws(20, A * B, "gate_noise/0", context) * sigma2_TE;
  const Tensor chosen_TK = std::get<1>(h1_TA.topk(2, 1));
  const Tensor load1_TA = load_against_others(product(2), h1_TA, sigma1_TA, 2);
  for (int64_t g = 0; g < 4; ++g) {
    for (int64_t i = 0; i < A; ++i) {
      const auto of_group = [&](const Tensor& all_TE) { return all_TE.narrow(1, B * i, B); };
      const Tensor load2_TB =
          load_against_others(of_group(product(0)), of_group(h2_TE), of_group(sigma2_TE), 1);
      Tensor primary = at::zeros({}, at::kDouble), secondary_B = at::zeros({B}, at::kDouble),
             ours_B = at::zeros({B}, at::kDouble);
      double members = 0;
      for (int64_t t = g * S; t < (g + 1) * S; ++t) {
        if (!context.valid_T[t].item<bool>()) continue;
        primary = primary + load1_TA[t][i];
        ours_B = ours_B + load_TE[t].narrow(0, B * i, B);
        if (!(chosen_TK[t] == i).any().item<bool>()) continue;
        secondary_B = secondary_B + load2_TB[t];
        members += 1;
      }
      EXPECT_TRUE(near(ours_B, primary * secondary_B / std::max(members, 1.0), 1e-12));
    }
  }
}

TEST(NoisyTopKRouterTest, C1_TiesGoToTheLowerExpert) {
  for (const Mixture& mixture : {Mixture{8, 3, 1, 1}, Mixture{8, 4, 4, 2}}) {
    RouterTensors zeros;
    for (const RouterWeight& weight : router_of(mixture).weights()) {
      zeros.weights.push_back(at::zeros(weight.shape));
    }
    const Tensor x_TD = sample_x(2).to(at::kFloat);
    const Tensor ids_TK = router_of(mixture).route(x_TD, zeros, eval_context(1, 2)).experts_TK;
    EXPECT_TRUE(same(ids_TK, at::arange(mixture.top_k).repeat({2, 1})));
  }
}

TEST(NoisyTopKRouterTest, C1_RoutingDoesNotKnowTheLayout) {
  for (const Mixture& mixture : mixtures()) {
    const auto weights = sample_weights(mixture);
    const Tensor x_TD = sample_x(24);
    const Routing whole = route(mixture, x_TD, weights, context_of(4, 6));
    const Routing first = route(mixture, x_TD.narrow(0, 0, 6), weights, context_of(1, 6, 0));
    const Routing rest = route(mixture, x_TD.narrow(0, 6, 18), weights, context_of(3, 6, 1));
    EXPECT_TRUE(same(at::cat({first.experts_TK, rest.experts_TK}), whole.experts_TK));
    EXPECT_TRUE(near(at::cat({first.weights_TK, rest.weights_TK}), whole.weights_TK, 1e-12));
    EXPECT_TRUE(near(at::cat({first.load_TE, rest.load_TE}), whole.load_TE, 1e-12));
    const Routing later = route(mixture, x_TD, weights, context_of(4, 6, 100));
    EXPECT_FALSE(at::equal(later.load_TE, whole.load_TE));
  }
}

TEST(NoisyTopKRouterTest, NoTokens) {
  for (const Mixture& mixture : mixtures()) {
    const Routing routing =
        route(mixture, at::empty({0, kD}, at::kDouble), sample_weights(mixture), context_of(0, 5));
    EXPECT_EQ(routing.experts_TK.sizes(), (std::vector<int64_t>{0, mixture.top_k}));
    EXPECT_EQ(routing.weights_TK.sizes(), (std::vector<int64_t>{0, mixture.top_k}));
    EXPECT_EQ(routing.load_TE.sizes(), (std::vector<int64_t>{0, mixture.experts}));
    EXPECT_EQ(routing.importance_TE.sizes(), (std::vector<int64_t>{0, mixture.experts}));
  }
}

TEST(NoisyTopKRouterTest, RefusesGroupsThatDoNotFit) {
  for (const Mixture& mixture : {Mixture{6, 2, 4, 2}, Mixture{6, 3, 3, 2}, Mixture{6, 6, 3, 2}}) {
    EXPECT_THROW(router_of(mixture), c10::Error);
  }
}

}  // namespace
}  // namespace switchyard
