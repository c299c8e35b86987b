#include "moe/routers/jitter.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "moe/router.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// B sequences of S tokens, T = B * S, D model width.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t kLayer = 2;

TEST(JitterTest, C3_FactorsAreUniformAroundOne) {
  const Tensor factor_TD = jitter(at::ones({64, 50}), 0.1, kLayer, context_of(8, 8));
  EXPECT_GE(factor_TD.min().item<float>(), 0.9F);
  EXPECT_LE(factor_TD.max().item<float>(), 1.1F);
  // U(0.9, 1.1) has standard deviation 0.2 / sqrt(12); 3200 draws.
  const double sigma = 0.2 / std::sqrt(12.0);
  EXPECT_NEAR(factor_TD.mean().item<double>(), 1, 3 * sigma / std::sqrt(3200.0));
  EXPECT_NEAR(factor_TD.std().item<double>(), sigma, 0.05 * sigma);
}

TEST(JitterTest, ASplitBatchDrawsTheSame) {
  const Tensor x_TD = normal_tensor({24, 5}, "hidden states", at::kFloat);
  const Tensor whole = jitter(x_TD, 0.1, kLayer, context_of(4, 6));
  const Tensor first = jitter(x_TD.narrow(0, 0, 6), 0.1, kLayer, context_of(1, 6, 0));
  const Tensor rest = jitter(x_TD.narrow(0, 6, 18), 0.1, kLayer, context_of(3, 6, 1));
  EXPECT_TRUE(same(at::cat({first, rest}), whole));
}

TEST(JitterTest, SequencesLayersAndSeedsDrawDifferently) {
  const Tensor x_TD = at::ones({4, 8});
  const TokenContext context = context_of(1, 4);
  TokenContext other_seed = context;
  other_seed.seed = 8;
  const Tensor drawn = jitter(x_TD, 0.1, kLayer, context);
  EXPECT_TRUE(same(drawn, jitter(x_TD, 0.1, kLayer, context)));
  EXPECT_FALSE(at::equal(drawn, jitter(x_TD, 0.1, kLayer + 1, context)));
  EXPECT_FALSE(at::equal(drawn, jitter(x_TD, 0.1, kLayer, context_of(1, 4, 1))));
  EXPECT_FALSE(at::equal(drawn, jitter(x_TD, 0.1, kLayer, other_seed)));
  EXPECT_FALSE(at::equal(drawn[0], drawn[1]));
}

TEST(JitterTest, IsOffInEvaluationAndAtZero) {
  const Tensor x_TD = normal_tensor({4, 8}, "hidden states", at::kFloat);
  TokenContext eval = context_of(1, 4);
  eval.mode = Mode::kEval;
  EXPECT_TRUE(same(jitter(x_TD, 0.1, kLayer, eval), x_TD));
  EXPECT_TRUE(same(jitter(x_TD, 0.0, kLayer, context_of(1, 4)), x_TD));
}

TEST(JitterTest, TheGradientIsTheFactor) {
  const Tensor x_TD = at::ones({4, 8});
  const TensorFunction f = [](const auto& in) {
    return jitter(in[0], 0.1, kLayer, context_of(1, 4));
  };
  EXPECT_TRUE(same(gradients_of(f, {x_TD}, at::ones({4, 8}))[0], f({x_TD})));
}

TEST(JitterTest, EveryRouterAppliesItInTrainingOnly) {
  const Tensor x_TD = normal_tensor({6, 8}, "hidden states", at::kFloat);
  for (const char* type : {"topk", "switch", "gshard"}) {
    RouterConfig config;
    config.type = type;
    config.jitter_eps = 0.1;
    RouterPlace place = place_of(8, 8, 2);
    place.layer = kLayer;
    TokenContext context = context_of(2, 3);
    const auto router = make_router(config, place);
    EXPECT_TRUE(same(router->route(x_TD, identity_weights(8), context).logits_TE,
                     jitter(x_TD, 0.1, kLayer, context)));
    context.mode = Mode::kEval;
    EXPECT_TRUE(same(router->route(x_TD, identity_weights(8), context).logits_TE, x_TD));
  }
}

}  // namespace
}  // namespace switchyard
