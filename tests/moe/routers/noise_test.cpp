#include "moe/routers/noise.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "moe/routers/smooth_load.h"
#include "moe/routers/topk_router.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, K of them chosen. The gate is the identity.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t kE = 6;

Tensor sample_logits(int64_t T = 40) { return normal_tensor({T, kE}, "logits"); }

/// V-MoE: softmax of noisy logits, not normalised.
Routing route(const Tensor& logits_TE, const TokenContext& context, double std = 0.3) {
  RouterConfig config;
  config.normalize = false;
  config.noise_std = std;
  return TopKRouter(config, place_of(kE, kE, 2))
      .route(logits_TE, {{at::eye(kE, logits_TE.options().requires_grad(false))}, {}}, context);
}

TEST(NoiseTest, R1_IsNormalOfTheGivenDeviation) {
  const Tensor noise_TE = add_noise(at::zeros({4000, kE}), 0.125, /*layer=*/2, context_of(80, 50));
  EXPECT_NEAR(noise_TE.mean().item<double>(), 0, 4 * 0.125 / std::sqrt(4000.0 * kE));
  EXPECT_NEAR(noise_TE.std().item<double>(), 0.125, 0.003);
  const Tensor within = (noise_TE.abs() < 0.125).to(at::kDouble).mean();
  EXPECT_NEAR(within.item<double>(), 0.6827, 0.012);
}

TEST(NoiseTest, R1_IsDrawnForLayersAndSequencesAndInTrainingOnly) {
  const Tensor z_TE = sample_logits(24);
  TokenContext context = context_of(4, 6);
  const Tensor noisy_TE = add_noise(z_TE, 0.3, 2, context);
  EXPECT_FALSE(at::equal(noisy_TE, z_TE));
  EXPECT_FALSE(at::equal(noisy_TE, add_noise(z_TE, 0.3, 3, context)));
  EXPECT_FALSE(at::equal(noisy_TE, add_noise(z_TE, 0.3, 2, context_of(4, 6, 9))));
  EXPECT_TRUE(same(add_noise(z_TE, 0.0, 2, context), z_TE));
  context.mode = Mode::kEval;
  EXPECT_TRUE(same(add_noise(z_TE, 0.3, 2, context), z_TE));
}

TEST(NoiseTest, R1_TheChoiceIsOfNoisyAndTheImportanceOfCleanProbabilities) {
  const Tensor z_TE = sample_logits();
  const TokenContext context = context_of(4, 10);
  const Routing routing = route(z_TE, context);
  const Tensor noisy_TE = add_noise(z_TE, 0.3, 0, context);
  const auto [weights_TK, experts_TK] = noisy_TE.softmax(1).topk(2, 1);
  EXPECT_TRUE(same(routing.experts_TK, experts_TK));
  EXPECT_TRUE(near(routing.weights_TK, weights_TK, 1e-12));
  EXPECT_TRUE(near(routing.probs_TE, noisy_TE.softmax(1), 1e-12));
  EXPECT_TRUE(near(routing.importance_TE, z_TE.softmax(1), 1e-12));
  EXPECT_TRUE(same(routing.logits_TE, z_TE));
  EXPECT_FALSE(at::equal(experts_TK, std::get<1>(z_TE.topk(2, 1))));
}

TEST(NoiseTest, R1_TheLoadIsPhiOfTheDistanceToTheKthNoisyLogit) {
  const Tensor z_TE = sample_logits();
  const TokenContext context = context_of(4, 10);
  const Tensor kth_T1 = std::get<0>(add_noise(z_TE, 0.3, 0, context).topk(2, 1)).narrow(1, 1, 1);
  const Tensor expected_TE = 0.5 * at::erfc(-(z_TE - kth_T1) / 0.3 / std::sqrt(2.0));
  EXPECT_TRUE(near(route(z_TE, context).load_TE, expected_TE, 1e-12));
}

TEST(NoiseTest, R1_WithoutNoiseTheLoadIsTheCount) {
  TokenContext eval = context_of(4, 10);
  eval.mode = Mode::kEval;
  const Tensor z_TE = sample_logits();
  const Routing routing = route(z_TE, eval);
  EXPECT_TRUE(same(routing.load_TE, hard_load(std::get<1>(z_TE.topk(2, 1)), z_TE)));
  EXPECT_TRUE(near(routing.importance_TE, z_TE.softmax(1), 1e-12));
  EXPECT_FALSE(route(z_TE, eval, 0.0).load_TE.defined());
}

TEST(NoiseTest, R1_GradientsOfWeightsImportanceAndLoad) {
  const TokenContext context = context_of(1, 8);
  for (const auto part : {&Routing::weights_TK, &Routing::importance_TE, &Routing::load_TE}) {
    const TensorFunction f = [&](const auto& in) { return route(in[0], context).*part; };
    EXPECT_TRUE(gradients_match(f, {sample_logits(8)}, 1e-7));
  }
}

TEST(NoiseTest, R1_RoutingDoesNotKnowTheLayout) {
  const Tensor z_TE = sample_logits(24);
  const Routing whole = route(z_TE, context_of(4, 6));
  const Routing first = route(z_TE.narrow(0, 0, 6), context_of(1, 6, 0));
  const Routing rest = route(z_TE.narrow(0, 6, 18), context_of(3, 6, 1));
  EXPECT_TRUE(same(at::cat({first.experts_TK, rest.experts_TK}), whole.experts_TK));
  EXPECT_TRUE(near(at::cat({first.load_TE, rest.load_TE}), whole.load_TE, 1e-12));
}

TEST(NoiseTest, NoTokens) {
  const Routing routing = route(at::empty({0, kE}), context_of(0, 6));
  EXPECT_EQ(routing.load_TE.sizes(), (std::vector<int64_t>{0, kE}));
}

}  // namespace
}  // namespace switchyard
