#include "moe/routers/sequence_router.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, C clusters, M width of their embedding, D model width.

namespace switchyard {
namespace {

using at::Tensor;

RouterConfig sequence(double temperature = 1) {
  RouterConfig config;
  config.type = "sequence";
  config.sequence = {/*clusters=*/5, /*embedding_size=*/3, temperature};
  return config;
}

TokenContext context_with(const std::vector<int64_t>& clusters, int64_t length, int64_t first = 0) {
  TokenContext context = context_of(static_cast<int64_t>(clusters.size()), length, first);
  context.domains_T = at::tensor(clusters, at::kLong).repeat_interleave(length);
  return context;
}

Routing route(const RouterConfig& config, const std::vector<Tensor>& weights,
              const TokenContext& context) {
  const int64_t E = weights[1].size(0);
  return SequenceRouter(config, place_of(6, E, 1))
      .route(at::zeros({context.tokens_T.size(0), 6}), {weights, {}}, context);
}

TEST(SequenceRouterTest, P5_WeighsTheBestExpertByItsProbabilityAndTheUniversalOneByTheRest) {
  for (int64_t c = 0; c < 100; ++c) {
    const std::string name = "case " + std::to_string(c);
    const int64_t E = 2 + c % 7;
    Tensor embedding_CM = normal_tensor({5, 3}, name + " embedding", at::kFloat);
    if (c % 10 == 0) embedding_CM[c % 5].zero_();  // a tie of all experts
    const Tensor gate_EM = normal_tensor({E, 3}, name + " gate", at::kFloat);
    const double temperature = 0.05 + 0.1 * static_cast<double>(c % 10);
    const TokenContext context = context_with({c % 5, 1, 4}, 4);
    const Routing routing = route(sequence(temperature), {embedding_CM, gate_EM}, context);
    for (int64_t t = 0; t < 12; ++t) {
      const Tensor cluster_M = embedding_CM[context.domains_T[t].item<int64_t>()];
      const Tensor p_E = (at::matmul(gate_EM, cluster_M) / temperature).softmax(0);
      int64_t best = 0;
      for (int64_t e = 1; e < E; ++e) {
        if (routing.probs_TE[t][e].item<float>() > routing.probs_TE[t][best].item<float>())
          best = e;
      }
      EXPECT_TRUE(near(routing.probs_TE[t], p_E, 1e-5));
      EXPECT_EQ(routing.experts_TK[t][0].item<int64_t>(), best);
      EXPECT_NEAR(routing.weights_TK[t][0].item<float>(), p_E.max().item<float>(), 1e-5);
      EXPECT_NEAR(routing.shared_T[t].item<float>(), 1 - p_E.max().item<float>(), 1e-5);
    }
  }
}

TEST(SequenceRouterTest, P5_AllTokensOfASampleShareTheExpertWhateverTheyAre) {
  const std::vector<Tensor> weights = {normal_tensor({5, 3}, "embedding", at::kFloat),
                                       normal_tensor({8, 3}, "gate", at::kFloat)};
  const TokenContext context = context_with({0, 1, 2, 3, 4, 2}, 7);
  const Routing routing =
      SequenceRouter(sequence(), place_of(6, 8, 1))
          .route(normal_tensor({42, 6}, "x", at::kFloat), {weights, {}}, context);
  for (int64_t b = 0; b < 6; ++b) {
    for (const Tensor& of_token : {routing.experts_TK, routing.probs_TE}) {
      const Tensor rows = of_token.narrow(0, b * 7, 7);
      EXPECT_TRUE(same(rows, rows[0].unsqueeze(0).expand_as(rows).contiguous()));
    }
  }
  // The same cluster, the same expert.
  EXPECT_TRUE(same(routing.probs_TE[2 * 7], routing.probs_TE[5 * 7]));
  EXPECT_GT(std::get<0>(at::_unique(routing.experts_TK)).numel(), 1);
}

TEST(SequenceRouterTest, P5_TheGradientIsThatOfTheEquation) {
  const TokenContext context = context_with({0, 3, 3, 2}, 2);
  const TensorFunction f = [&](const auto& in) {
    const Routing routing = route(sequence(0.5), {in[0], in[1]}, context);
    const Tensor scale_T = at::arange(1, 9, at::kDouble);
    return at::cat({routing.weights_TK.squeeze(1) * scale_T, routing.shared_T * scale_T.square(),
                    routing.probs_TE.square().flatten()});
  };
  EXPECT_TRUE(gradients_match(
      f, {normal_tensor({5, 3}, "embedding"), normal_tensor({4, 3}, "gate")}, 1e-7));
}

TEST(SequenceRouterTest, P5_ClustersThatAStepDoesNotSeeHaveNoGradient) {
  Tensor embedding_CM = normal_tensor({5, 3}, "embedding").set_requires_grad(true);
  const Tensor gate_EM = normal_tensor({4, 3}, "gate");
  route(sequence(), {embedding_CM, gate_EM}, context_with({1, 4}, 3)).weights_TK.sum().backward();
  EXPECT_TRUE(same(embedding_CM.grad().ne(0).any(1), bools({0, 1, 0, 0, 1})));
}

/// The layer with given logits per cluster: the embedding is the identity.
struct Layer {
  Mesh mesh = solo_mesh();
  SampleMoe moe;

  explicit Layer(const Tensor& gate_EM) : moe(sample_model(), config(gate_EM.size(1)), mesh) {
    moe.weight("gate.embedding.weight").copy_(at::eye(gate_EM.size(1)));
    moe.weight("gate.weight").copy_(gate_EM);
  }
  static MoeConfig config(int64_t clusters) {
    MoeConfig moe = sample_moe_config(1);
    moe.router.type = "sequence";
    moe.router.sequence = {clusters, clusters, 1.0};
    moe.shared_experts = {1, 4, false};
    return moe;
  }
  Tensor feed_forward(const std::string& name, const Tensor& x_TD) const {
    const auto product = [&](const char* which, const Tensor& in) {
      return at::linear(in, moe.weight(name + "." + which + "_proj.weight"));
    };
    return product("down", at::silu(product("gate", x_TD)) * product("up", x_TD)).detach();
  }
};

TEST(SequenceRouterTest, P5_AGateOfOneIsTheExpertAloneAndOfLittleMostlyTheUniversalOne) {
  Tensor gate_EM = at::zeros({8, 2});
  gate_EM[5][0] = 1000;  // cluster 0: G_max is exactly 1; cluster 1: G is 1/8 everywhere
  Layer layer(gate_EM);
  const Tensor x_TD = normal_tensor({8, 6}, "x", at::kFloat);
  const MoeOutput output = layer.moe.layer.forward(x_TD, context_with({0, 1}, 4));
  const Tensor first_TD = x_TD.narrow(0, 0, 4), second_TD = x_TD.narrow(0, 4, 4);
  EXPECT_TRUE(
      near(output.y_TD.detach().narrow(0, 0, 4), layer.feed_forward("experts.5", first_TD), 1e-6));
  EXPECT_TRUE(near(output.y_TD.detach().narrow(0, 4, 4),
                   0.125 * layer.feed_forward("experts.0", second_TD) +
                       0.875 * layer.feed_forward("shared_expert", second_TD),
                   1e-6));
}

TEST(SequenceRouterTest, P5_AGateOfOneGivesTheUniversalExpertNoGradient) {
  Tensor gate_EM = at::zeros({8, 2});
  gate_EM[5][0] = 1000;
  Layer layer(gate_EM);
  const Tensor x_TD = normal_tensor({8, 6}, "x", at::kFloat);
  layer.moe.layer.forward(x_TD, context_with({0, 0}, 4)).y_TD.square().sum().backward();
  EXPECT_EQ(layer.moe.gradient("shared_expert.up_proj.weight").abs().max().item<float>(), 0);
  EXPECT_GT(layer.moe.gradient("experts.5.up_proj.weight").abs().max().item<float>(), 0);
}

TEST(SequenceRouterTest, P5_PiecesOfASampleRouteAsTheWhole) {
  const std::vector<Tensor> weights = {normal_tensor({5, 3}, "embedding", at::kFloat),
                                       normal_tensor({8, 3}, "gate", at::kFloat)};
  const Routing whole = route(sequence(), weights, context_with({4, 0, 2}, 5));
  const Routing first = route(sequence(), weights, context_with({4}, 5));
  const Routing rest = route(sequence(), weights, context_with({0, 2}, 5, 1));
  EXPECT_TRUE(same(at::cat({first.weights_TK, rest.weights_TK}), whole.weights_TK));
  EXPECT_TRUE(same(at::cat({first.experts_TK, rest.experts_TK}), whole.experts_TK));
}

TEST(SequenceRouterTest, P5_NoTokensAndWhatItRefuses) {
  const std::vector<Tensor> weights = {at::ones({5, 3}), at::ones({8, 3})};
  const Routing routing = route(sequence(), weights, context_of(0, 5));
  EXPECT_EQ(routing.experts_TK.sizes(), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(routing.shared_T.sizes(), (std::vector<int64_t>{0}));
  EXPECT_THROW(route(sequence(), weights, context_with({5}, 2)), c10::Error);
  EXPECT_THROW(SequenceRouter(sequence(), place_of(6, 8, 2)), ConfigError);
}

}  // namespace
}  // namespace switchyard
