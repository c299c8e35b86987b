#include "moe/routers/logit_normalization.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "moe/routers/topk_router.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts.

namespace switchyard {
namespace {

using at::Tensor;

Tensor sample_logits() { return normal_tensor({50, 8}, "logits"); }

Routing route(const Tensor& logits_TE, double lambda) {
  const int64_t E = logits_TE.size(1);
  RouterConfig config;
  config.logit_normalization = lambda;
  return TopKRouter(config, place_of(E, E, 2))
      .route(logits_TE, {{at::eye(E, logits_TE.options())}, {}}, context_of(1, logits_TE.size(0)));
}

double entropy(const Tensor& probs_TE) {
  return -(probs_TE * probs_TE.log()).sum(1).mean().item<double>();
}

TEST(LogitNormalizationTest, R10_MeanIsZeroAndStandardDeviationIsLambda) {
  for (const double lambda : {0.5, 1.0, 2.0}) {
    const Tensor z_TE = normalize_logits(sample_logits(), lambda);
    EXPECT_TRUE(near(z_TE.mean(1), at::zeros({50}, at::kDouble), 1e-12));
    EXPECT_TRUE(near(z_TE.std(1, /*unbiased=*/false), at::full({50}, lambda, at::kDouble), 1e-8));
  }
}

// Two logits 1 and 5: mean 3, standard deviation 2.
TEST(LogitNormalizationTest, R10_TwoLogitsByHand) {
  const Tensor logits_TE = at::tensor({1.0, 5.0}, at::kDouble).view({1, 2});
  EXPECT_TRUE(near(normalize_logits(logits_TE, 0.5),
                   at::tensor({-0.5, 0.5}, at::kDouble).view({1, 2}), 1e-9));
}

TEST(LogitNormalizationTest, R10_RoutingDoesNotChangeUnderScaleAndShift) {
  const Tensor logits_TE = sample_logits();
  const Routing plain = route(logits_TE, 1.0);
  for (const auto& [a, c] : {std::pair(3.0, 0.0), std::pair(0.2, 7.0), std::pair(40.0, -3.0)}) {
    const Routing moved = route(a * logits_TE + c, 1.0);
    EXPECT_TRUE(same(moved.experts_TK, plain.experts_TK));
    EXPECT_TRUE(near(moved.weights_TK, plain.weights_TK, 1e-7));
    EXPECT_TRUE(near(moved.probs_TE, plain.probs_TE, 1e-7));
  }
  EXPECT_FALSE(near(route(3.0 * logits_TE, 0.0).probs_TE, route(logits_TE, 0.0).probs_TE, 1e-2));
}

TEST(LogitNormalizationTest, R10_EntropyFallsAsLambdaGrows) {
  double before = std::log(8.0);
  for (const double lambda : {0.25, 0.5, 1.0, 2.0, 4.0}) {
    const double now = entropy(route(sample_logits(), lambda).probs_TE);
    EXPECT_LT(now, before) << lambda;
    before = now;
  }
}

TEST(LogitNormalizationTest, R10_TheGradientIsThatOfTheEquation) {
  const TensorFunction f = [](const auto& in) { return normalize_logits(in[0], 0.7); };
  EXPECT_TRUE(gradients_match(f, {normal_tensor({5, 6}, "logits")}, 1e-7));
}

// The normalisation takes shift and scale out, so the loss does not push them.
TEST(LogitNormalizationTest, R10_NoGradientAlongShiftAndScale) {
  const Tensor logits_TE = sample_logits(), weight_TE = normal_tensor({50, 8}, "weight");
  const TensorFunction f = [](const auto& in) { return normalize_logits(in[0], 1.0); };
  const Tensor gradient_TE = gradients_of(f, {logits_TE}, weight_TE)[0];
  EXPECT_TRUE(near(gradient_TE.sum(1), at::zeros({50}, at::kDouble), 1e-10));
  EXPECT_TRUE(near((gradient_TE * logits_TE).sum(1), at::zeros({50}, at::kDouble), 1e-7));
  EXPECT_GT(gradient_TE.abs().max().item<double>(), 0.1);
}

TEST(LogitNormalizationTest, R10_EqualLogitsStayZeroWithAFiniteGradient) {
  const TensorFunction f = [](const auto& in) { return normalize_logits(in[0], 1.0); };
  const Tensor equal_TE = at::full({3, 4}, 0.25);
  EXPECT_TRUE(same(f({equal_TE}), at::zeros({3, 4})));
  EXPECT_TRUE(gradients_of(f, {equal_TE}, normal_tensor({3, 4}, "weight", at::kFloat))[0]
                  .isfinite()
                  .all()
                  .item<bool>());
}

TEST(LogitNormalizationTest, ZeroIsOff) {
  const Tensor logits_TE = sample_logits();
  EXPECT_TRUE(same(normalize_logits(logits_TE, 0.0), logits_TE));
}

}  // namespace
}  // namespace switchyard
