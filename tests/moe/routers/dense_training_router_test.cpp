#include "moe/routers/dense_training_router.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "moe/choices_per_token.h"
#include "moe/router_losses.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, K experts per token.

namespace switchyard {
namespace {

using at::Tensor;

RouterConfig dense(const std::string& inference, double threshold = 0.1) {
  RouterConfig config;
  config.type = "dense_training";
  config.dense_training = {inference, threshold};
  return config;
}

TokenContext in_mode(Mode mode, int64_t T) {
  TokenContext context = context_of(1, T);
  context.mode = mode;
  return context;
}

Routing route(const RouterConfig& config, int64_t top_k, const Tensor& logits_TE, Mode mode) {
  const int64_t E = logits_TE.size(1);
  const Tensor gate_ED = at::eye(E, logits_TE.options().requires_grad(false));
  return DenseTrainingRouter(config, place_of(E, E, top_k))
      .route(logits_TE, {{gate_ED}, {}}, in_mode(mode, logits_TE.size(0)));
}

/// Weights as a table (T, E), zero where not kept.
Tensor table(const Routing& routing) {
  return at::zeros_like(routing.probs_TE)
      .scatter(1, routing.experts_TK, kept_weights(routing).detach());
}

TEST(DenseTrainingRouterTest, P6_TrainsEveryExpertByItsScoreAndInfersSparsely) {
  for (int64_t c = 0; c < 100; ++c) {
    const int64_t E = 2 + c % 7, K = 1 + c % E;
    Tensor logits_TE = normal_tensor({11, E}, "case " + std::to_string(c), at::kFloat);
    logits_TE[2].zero_();                 // ties
    logits_TE.select(1, E - 1).sub_(50);  // an expert that is hardly used
    const Tensor p_TE = logits_TE.softmax(1);
    EXPECT_TRUE(near(table(route(dense("top_k"), K, logits_TE, Mode::kTrain)), p_TE, 1e-6));
    EXPECT_TRUE(near(table(route(dense("all"), K, logits_TE, Mode::kEval)), p_TE, 1e-6));
    const Routing best = route(dense("top_k"), K, logits_TE, Mode::kEval);
    const Tensor order_TE = std::get<1>(p_TE.sort(/*stable=*/true, 1, /*descending=*/true));
    EXPECT_TRUE(same(best.experts_TK, order_TE.narrow(1, 0, K).contiguous()));
    EXPECT_TRUE(near(best.weights_TK, p_TE.gather(1, best.experts_TK), 1e-6));  // not normalised
    const Routing above = route(dense("threshold", 0.25), K, logits_TE, Mode::kEval);
    EXPECT_TRUE(near(table(above), at::where(above.probs_TE > 0.25, p_TE, 0.0), 1e-6));
  }
}

TEST(DenseTrainingRouterTest, P6_ChoicesAreSortedBestFirst) {
  const Routing routing =
      route(dense("all"), 2, normal_tensor({30, 8}, "logits", at::kFloat), Mode::kTrain);
  EXPECT_TRUE((routing.weights_TK.narrow(1, 0, 7) >= routing.weights_TK.narrow(1, 1, 7))
                  .all()
                  .item<bool>());
}

TEST(DenseTrainingRouterTest, P6_TheGradientReachesEveryScore) {
  const Tensor weight_TE = normal_tensor({5, 4}, "weight of the outputs");
  const TensorFunction f = [&](const auto& in) {
    const Routing routing = route(dense("top_k"), 1, in[0], Mode::kTrain);
    return routing.weights_TK * weight_TE.gather(1, routing.experts_TK);
  };
  const Tensor logits_TE = normal_tensor({5, 4}, "logits");
  EXPECT_TRUE(gradients_match(f, {logits_TE}, 1e-7));
  const Tensor gradient = gradients_of(f, {logits_TE}, at::ones({5, 4}, at::kDouble))[0];
  EXPECT_TRUE(gradient.ne(0).all().item<bool>());
}

MoeConfig layer_config(const RouterConfig& router, int64_t top_k) {
  MoeConfig config = sample_moe_config(top_k);
  config.router = router;
  return config;
}

TEST(DenseTrainingRouterTest, P6_TheTrainingPassIsTheSparsePathWithAllExperts) {
  const Mesh mesh = solo_mesh();
  RouterConfig all;
  all.normalize = false;
  SampleMoe trained(sample_model(), layer_config(dense("top_k"), 2), mesh);
  SampleMoe sparse(sample_model(), layer_config(all, 8), mesh);
  const Tensor x_TD = normal_tensor({24, 6}, "x", at::kFloat);
  const Tensor y_TD = trained.layer.forward(x_TD, context_of(2, 12)).y_TD;
  const Tensor expected_TD = sparse.layer.forward(x_TD, context_of(2, 12)).y_TD;
  EXPECT_TRUE(same(y_TD.detach(), expected_TD.detach()));
  y_TD.square().sum().backward();
  expected_TD.square().sum().backward();
  for (const PlacedPart& placed : trained.store.parts()) {
    EXPECT_TRUE(same(trained.store.gradient_of(placed), sparse.store.gradient_of(placed)))
        << placed.part.name;
    EXPECT_TRUE(trained.store.gradient_of(placed).ne(0).any().item<bool>()) << placed.part.name;
  }
}

TEST(DenseTrainingRouterTest, P6_InferenceWithAllExpertsIsTheTrainingPass) {
  const Mesh mesh = solo_mesh();
  const Tensor x_TD = normal_tensor({24, 6}, "x", at::kFloat);
  const auto output = [&](const RouterConfig& router, int64_t top_k, Mode mode) {
    SampleMoe moe(sample_model(), layer_config(router, top_k), mesh);
    return moe.layer.forward(x_TD, in_mode(mode, 24)).y_TD.detach();
  };
  const Tensor trained = output(dense("top_k"), 2, Mode::kTrain);
  EXPECT_TRUE(same(output(dense("top_k"), 8, Mode::kEval), trained));
  EXPECT_TRUE(same(output(dense("all"), 2, Mode::kEval), trained));
  EXPECT_TRUE(same(output(dense("threshold", 0), 2, Mode::kEval), trained));
  EXPECT_FALSE(at::equal(output(dense("top_k"), 2, Mode::kEval), trained));
}

// What an inference leaves out shrinks as K grows: the outputs come closer to training's.
TEST(DenseTrainingRouterTest, P6_MoreExpertsComeCloserToTheTrainingPass) {
  const Tensor logits_TE = normal_tensor({200, 8}, "logits", at::kFloat);
  const Tensor trained = table(route(dense("top_k"), 1, logits_TE, Mode::kTrain));
  double last = 2;
  for (int64_t K = 1; K <= 8; ++K) {
    const Tensor sparse = table(route(dense("top_k"), K, logits_TE, Mode::kEval));
    const double left_out = (trained - sparse).sum(1).max().item<double>();
    EXPECT_LT(left_out, last);
    last = left_out;
  }
  EXPECT_NEAR(last, 0, 1e-6);
}

TEST(DenseTrainingRouterTest, P6_CapacityAndBalanceCountAllExperts) {
  MoeConfig config = layer_config(dense("top_k"), 2);
  EXPECT_EQ(choices_per_token(config, Mode::kTrain), 8);
  EXPECT_EQ(choices_per_token(config, Mode::kEval), 2);
  config.router = dense("threshold");
  EXPECT_EQ(choices_per_token(config, Mode::kEval), 8);
  EXPECT_EQ(choices_per_token(sample_moe_config(2), Mode::kTrain), 2);

  config = layer_config(dense("top_k"), 2);
  config.capacity.factor = 1.0;
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), config, mesh);
  const MoeOutput output =
      moe.layer.forward(normal_tensor({24, 6}, "x", at::kFloat), context_of(2, 12));
  EXPECT_EQ(output.record.routed_pairs.item<int64_t>(), 24 * 8);
  EXPECT_EQ(output.record.dropped_pairs.item<int64_t>(), 0);
  const auto balance = [&](const char* type) {
    config.balance = {BalanceConfig{}};
    config.balance[0].type = type;
    return router_losses({output.record}, config, {}, /*step_tokens=*/24).aux.item<double>();
  };
  EXPECT_NEAR(balance("topk"), 1, 1e-5);  // perfectly even, as it is
  EXPECT_GT(balance("switch"), 1.01);     // first choices still tell
  EXPECT_NEAR(uniform_counts(1, config).all_LE.sum().item<double>(), 8, 1e-12);
}

TEST(DenseTrainingRouterTest, P6_NoTokens) {
  const Routing train = route(dense("top_k"), 2, at::zeros({0, 4}), Mode::kTrain);
  EXPECT_EQ(train.experts_TK.sizes(), (std::vector<int64_t>{0, 4}));
  const Routing eval = route(dense("top_k"), 2, at::zeros({0, 4}), Mode::kEval);
  EXPECT_EQ(eval.experts_TK.sizes(), (std::vector<int64_t>{0, 2}));
}

}  // namespace
}  // namespace switchyard
