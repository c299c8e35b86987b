#include "moe/routers/attention_router.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, K experts per token, D model width.

namespace switchyard {
namespace {

using at::Tensor;

Routing route(const RouterConfig& config, int64_t top_k, const Tensor& x_TD,
              const std::vector<Tensor>& weights) {
  return AttentionRouter(config, place_of(x_TD.size(1), weights[0].size(0), top_k))
      .route(x_TD, {weights, {}}, context_of(1, x_TD.size(0)));
}

std::vector<Tensor> sample_weights(int64_t E, int64_t D, const std::string& name = "") {
  return {normal_tensor({E, D}, name + "query"), normal_tensor({E, D}, name + "key"),
          normal_tensor({E, D}, name + "value")};
}

/// z of one token, by loops.
std::vector<double> logits_by_hand(const Tensor& x_D, const std::vector<Tensor>& weights) {
  const int64_t E = weights[0].size(0), D = x_D.size(0);
  std::vector<double> of[3];
  for (int which = 0; which < 3; ++which) {
    for (int64_t e = 0; e < E; ++e) {
      double sum = 0;
      for (int64_t d = 0; d < D; ++d)
        sum += weights[which][e][d].item<double>() * x_D[d].item<double>();
      of[which].push_back(sum);
    }
  }
  std::vector<double> logits;
  for (int64_t e = 0; e < E; ++e) {
    double above = 0, below = 0;
    for (int64_t j = 0; j < E; ++j) {
      const double exponential = std::exp(of[0][e] * of[1][j]);
      above += exponential * of[2][j];
      below += exponential;
    }
    logits.push_back(above / below);
  }
  return logits;
}

TEST(AttentionRouterTest, R9_EqualsTheFormulaByLoops) {
  for (const int64_t E : {2, 3, 7}) {
    const std::vector<Tensor> weights = sample_weights(E, 4);
    const Tensor x_TD = normal_tensor({20, 4}, "hidden states");
    const Routing routing = route({}, 2, x_TD, weights);
    for (int64_t t = 0; t < 20; ++t) {
      const Tensor expected = at::tensor(logits_by_hand(x_TD[t], weights), at::kDouble);
      EXPECT_TRUE(near(routing.logits_TE[t], expected, 1e-12));
      EXPECT_TRUE(near(routing.probs_TE[t], expected.softmax(0), 1e-12));
      const auto [best_K, ids_K] = expected.topk(2);
      EXPECT_TRUE(same(routing.experts_TK[t], ids_K));
      EXPECT_TRUE(near(routing.weights_TK[t], best_K.softmax(0), 1e-12));
    }
  }
}

TEST(AttentionRouterTest, R9_EqualValuesGiveUniformRouting) {
  std::vector<Tensor> weights = sample_weights(6, 4);
  weights[2] = weights[2][0].repeat({6, 1});
  const Routing routing = route({}, 2, normal_tensor({20, 4}, "hidden states"), weights);
  EXPECT_TRUE(near(routing.probs_TE, at::full({20, 6}, 1.0 / 6, at::kDouble), 1e-12));
  EXPECT_TRUE(near(routing.weights_TK, at::full({20, 2}, 0.5, at::kDouble), 1e-12));
}

TEST(AttentionRouterTest, R9_ZeroHiddenStatesTieAndGoToTheLowerExperts) {
  const Routing routing = route({}, 3, at::zeros({4, 5}, at::kDouble), sample_weights(6, 5));
  EXPECT_TRUE(same(routing.experts_TK, at::arange(3).repeat({4, 1})));
}

TEST(AttentionRouterTest, R9_PermutedTokensGivePermutedRouting) {
  const std::vector<Tensor> weights = sample_weights(6, 4);
  const Tensor x_TD = normal_tensor({30, 4}, "hidden states");
  const Tensor order_T = normal_tensor({30}, "order").argsort();
  const Routing plain = route({}, 2, x_TD, weights),
                permuted = route({}, 2, x_TD.index_select(0, order_T), weights);
  EXPECT_TRUE(same(permuted.experts_TK, plain.experts_TK.index_select(0, order_T)));
  EXPECT_TRUE(near(permuted.weights_TK, plain.weights_TK.index_select(0, order_T), 1e-12));
  EXPECT_FALSE(at::equal(permuted.experts_TK, plain.experts_TK));
}

TEST(AttentionRouterTest, R9_HasThreeMatricesOfExpertsTimesWidth) {
  int64_t elements = 0;
  for (const RouterWeight& weight : AttentionRouter({}, place_of(10, 6, 2)).weights()) {
    EXPECT_FALSE(weight.shared);
    elements += c10::multiply_integers(weight.shape);
  }
  EXPECT_EQ(elements, 3 * 6 * 10);
}

TEST(AttentionRouterTest, R9_GradientsMatchFiniteDifferences) {
  for (const bool normalize : {true, false}) {
    RouterConfig config;
    config.normalize = normalize;
    config.scaling_factor = 1.5;
    const TensorFunction f = [&](const auto& in) {
      const Routing routing = route(config, 2, in[0], {in[1], in[2], in[3]});
      return at::cat({routing.weights_TK, routing.probs_TE, routing.logits_TE}, 1);
    };
    const std::vector<Tensor> weights = sample_weights(4, 3);
    EXPECT_TRUE(gradients_match(
        f, {normal_tensor({5, 3}, "hidden states"), weights[0], weights[1], weights[2]}, 1e-7));
  }
}

// With the weights of all experts normalised to 1 the router learns nothing from their sum.
TEST(AttentionRouterTest, R9_TheSumOfNormalisedWeightsHasNoGradient) {
  const TensorFunction f = [&](const auto& in) {
    return route({}, 2, in[0], {in[1], in[2], in[3]}).weights_TK.sum(1);
  };
  const std::vector<Tensor> weights = sample_weights(4, 3);
  for (const Tensor& gradient :
       gradients_of(f, {normal_tensor({5, 3}, "hidden states"), weights[0], weights[1], weights[2]},
                    at::ones({5}, at::kDouble))) {
    EXPECT_TRUE(near(gradient, at::zeros_like(gradient), 1e-12));
  }
}

TEST(AttentionRouterTest, R9_DoesNotKnowTheLayout) {
  RouterConfig config;
  config.jitter_eps = 0.2;
  const AttentionRouter router(config, place_of(4, 6, 2));
  const RouterTensors tensors{sample_weights(6, 4), {}};
  const Tensor x_TD = normal_tensor({50, 4}, "hidden states");
  const auto piece = [&](int64_t first, int64_t count) {
    return router.route(x_TD.narrow(0, first * 10, count * 10), tensors,
                        context_of(count, 10, first));
  };
  const Routing whole = piece(0, 5), first = piece(0, 2), rest = piece(2, 3);
  EXPECT_TRUE(same(at::cat({first.experts_TK, rest.experts_TK}), whole.experts_TK));
  EXPECT_TRUE(near(at::cat({first.weights_TK, rest.weights_TK}), whole.weights_TK, 1e-12));
}

TEST(AttentionRouterTest, R9_RoutesBfloat16InFloat32AndNoTokens) {
  std::vector<Tensor> half, full;
  for (const Tensor& weight : sample_weights(6, 4)) {
    half.push_back(weight.to(at::kBFloat16));
    full.push_back(half.back().to(at::kFloat));
  }
  const Tensor x_TD = normal_tensor({9, 4}, "hidden states").to(at::kBFloat16);
  EXPECT_TRUE(
      same(route({}, 2, x_TD, half).logits_TE, route({}, 2, x_TD.to(at::kFloat), full).logits_TE));
  const Routing none = route({}, 2, at::empty({0, 4}, at::kDouble), sample_weights(6, 4));
  EXPECT_EQ(none.experts_TK.sizes(), (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(none.probs_TE.sizes(), (std::vector<int64_t>{0, 6}));
}

}  // namespace
}  // namespace switchyard
