#include "moe/routers/base_router.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "moe/routers/balanced_assignment.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, D model width.

namespace switchyard {
namespace {

using at::Tensor;

RouterConfig base_config() {
  RouterConfig config;
  config.type = "base";
  return config;
}

Routing route(const Tensor& x_TD, const Tensor& gate_ED, const TokenContext& context) {
  return BaseRouter(base_config(), place_of(x_TD.size(1), gate_ED.size(0), 1))
      .route(x_TD, {{gate_ED}, {}}, context);
}

Tensor sample_x(int64_t T) { return normal_tensor({T, 6}, "hidden states", at::kFloat); }
Tensor sample_gate() { return normal_tensor({8, 6}, "gate", at::kFloat); }

TokenContext evaluation(TokenContext context) {
  context.mode = Mode::kEval;
  return context;
}

TEST(BaseRouterTest, R3_TrainingGivesEveryExpertTheSameLoadInEachGroup) {
  const Tensor x_TD = sample_x(96) + 1;  // the gate leans
  const Routing routing = route(x_TD, sample_gate(), context_of(4, 24));
  for (int64_t g = 0; g < 4; ++g) {
    const Tensor expert_N = routing.experts_TK.narrow(0, g * 24, 24).squeeze(1);
    EXPECT_TRUE(same(at::bincount(expert_N, {}, 8), at::full({8}, 3, at::kLong)));
    EXPECT_TRUE(same(expert_N, balanced_assignment(routing.logits_TE.narrow(0, g * 24, 24), 1e-3)));
  }
  EXPECT_TRUE(routing.kept_TK.all().item<bool>());
}

TEST(BaseRouterTest, R3_EvaluationIsGreedy) {
  const Tensor x_TD = sample_x(24) + 1;
  const Routing routing = route(x_TD, sample_gate(), evaluation(context_of(1, 24)));
  EXPECT_TRUE(same(routing.experts_TK, routing.logits_TE.argmax(1, /*keepdim=*/true)));
  const Routing training = route(x_TD, sample_gate(), context_of(1, 24));
  EXPECT_FALSE(at::equal(training.experts_TK, routing.experts_TK));
}

TEST(BaseRouterTest, R3_TheWeightIsTheSigmoidOfTheChosenLogit) {
  for (const TokenContext& context : {context_of(2, 12), evaluation(context_of(2, 12))}) {
    const Routing routing = route(sample_x(24), sample_gate(), context);
    const Tensor chosen_TK =
        at::matmul(sample_x(24), sample_gate().t()).gather(1, routing.experts_TK);
    EXPECT_TRUE(near(routing.weights_TK, 1 / (1 + (-chosen_TK).exp()), 1e-6));
  }
}

TEST(BaseRouterTest, R3_GradientsGoThroughTheSigmoidAlone) {
  const TensorFunction weights = [](const std::vector<Tensor>& in) {
    return route(in[0], in[1], context_of(2, 6)).weights_TK;
  };
  const std::vector<Tensor> in = {normal_tensor({12, 5}, "x"), normal_tensor({4, 5}, "gate")};
  EXPECT_TRUE(gradients_match(weights, in));
  // An expert's row learns from its own tokens only.
  const Tensor expert_T = route(in[0], in[1], context_of(2, 6)).experts_TK.squeeze(1);
  for (int64_t t = 0; t < 12; ++t) {
    Tensor weight_TK = at::zeros({12, 1}, at::kDouble);
    weight_TK[t] = 1;
    const Tensor gate_E = gradients_of(weights, in, weight_TK)[1].abs().sum(1);
    for (int64_t e = 0; e < 4; ++e) {
      EXPECT_EQ(gate_E[e].item<double>() > 0, e == expert_T[t].item<int64_t>());
    }
  }
}

TEST(BaseRouterTest, R3_TheGateStartsOrthogonalWithGainATenth) {
  MoeConfig config = sample_moe_config(1);
  config.num_experts = 4;
  config.router.type = "base";
  const Mesh mesh = solo_mesh();
  const SampleMoe moe(sample_model(), config, mesh);
  const Tensor gate_ED = moe.weight("gate.weight").detach();
  EXPECT_TRUE(near(at::matmul(gate_ED, gate_ED.t()), 0.01 * at::eye(4), 1e-7));
}

TEST(BaseRouterTest, R3_TheLayerIsTheIdentityAtTheStart) {
  MoeConfig config = sample_moe_config(1);
  config.router.type = "base";
  config.expert_init = "zero_output";
  const Mesh mesh = solo_mesh();
  const Tensor x_TD = sample_x(24);
  SampleMoe moe(sample_model(), config, mesh);
  // The residual is added outside: the layer itself gives nothing.
  EXPECT_TRUE(same(moe.layer.forward(x_TD, context_of(1, 24)).y_TD, at::zeros({24, 6})));
  config.expert_init = "independent";
  SampleMoe other(sample_model(), config, mesh);
  EXPECT_GT(other.layer.forward(x_TD, context_of(1, 24)).y_TD.abs().min().item<float>(), 0);
}

TEST(BaseRouterTest, R3_PaddingHasNoPartInTheAssignment) {
  TokenContext context = context_of(2, 12);
  context.valid_T = at::ones({24}, at::kBool);
  context.valid_T.narrow(0, 8, 4).fill_(false);
  const Routing routing = route(sample_x(24), sample_gate(), context);
  const Routing alone = route(sample_x(24).narrow(0, 0, 8), sample_gate(), context_of(1, 8));
  EXPECT_TRUE(same(routing.experts_TK.narrow(0, 0, 8), alone.experts_TK));
}

TEST(BaseRouterTest, R3_SequencesRoutedInPiecesAreRoutedTheSame) {
  const Tensor x_TD = sample_x(50);
  const Routing whole = route(x_TD, sample_gate(), context_of(5, 10));
  const Routing first = route(x_TD.narrow(0, 0, 20), sample_gate(), context_of(2, 10));
  const Routing rest = route(x_TD.narrow(0, 20, 30), sample_gate(), context_of(3, 10, 2));
  EXPECT_TRUE(same(at::cat({first.experts_TK, rest.experts_TK}), whole.experts_TK));
}

TEST(BaseRouterTest, R3_NeedsOneExpertPerToken) {
  EXPECT_THROW(BaseRouter(base_config(), place_of(6, 8, 2)), ConfigError);
}

TEST(BaseRouterTest, R3_NoTokens) {
  const Routing routing = route(at::empty({0, 6}), sample_gate(), context_of(0, 5));
  EXPECT_EQ(routing.experts_TK.sizes(), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(routing.weights_TK.sizes(), (std::vector<int64_t>{0, 1}));
}

}  // namespace
}  // namespace switchyard
