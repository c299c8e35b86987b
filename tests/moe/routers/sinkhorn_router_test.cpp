#include "moe/routers/sinkhorn_router.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "moe/routers/sinkhorn_plan.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, K experts per token, D model width.

namespace switchyard {
namespace {

using at::Tensor;

Routing route(const Tensor& x_TD, const Tensor& gate_ED, const TokenContext& context,
              int64_t top_k = 1) {
  RouterConfig config;
  config.type = "sinkhorn";
  return SinkhornRouter(config, place_of(x_TD.size(1), gate_ED.size(0), top_k))
      .route(x_TD, {{gate_ED}, {}}, context);
}

Tensor sample_x(int64_t T) { return normal_tensor({T, 6}, "hidden states", at::kFloat) + 1; }
Tensor sample_gate() { return normal_tensor({8, 6}, "gate", at::kFloat); }

TokenContext evaluation(TokenContext context) {
  context.mode = Mode::kEval;
  return context;
}

TEST(SinkhornRouterTest, R6_TrainingChoosesByThePlanOfEachGroup) {
  const Tensor x_TD = sample_x(96);
  for (const int64_t K : {1, 2}) {
    const Routing routing = route(x_TD, sample_gate(), context_of(2, 48), K);
    for (int64_t g = 0; g < 2; ++g) {
      const Tensor plan_NE = sinkhorn_plan(routing.logits_TE.narrow(0, g * 48, 48), 3);
      EXPECT_TRUE(same(routing.experts_TK.narrow(0, g * 48, 48), std::get<1>(plan_NE.topk(K, 1))));
    }
    EXPECT_FALSE(at::equal(routing.experts_TK, std::get<1>(routing.logits_TE.topk(K, 1))));
  }
}

TEST(SinkhornRouterTest, R6_EvaluationIsThePlainArgmax) {
  const Routing routing = route(sample_x(24), sample_gate(), evaluation(context_of(1, 24)));
  EXPECT_TRUE(same(routing.experts_TK, routing.logits_TE.argmax(1, /*keepdim=*/true)));
}

TEST(SinkhornRouterTest, R6_WeightsAreTheSoftmaxOfTheLogits) {
  for (const TokenContext& context : {context_of(2, 12), evaluation(context_of(2, 12))}) {
    const Routing routing = route(sample_x(24), sample_gate(), context);
    const Tensor p_TE = at::matmul(sample_x(24), sample_gate().t()).softmax(1);
    EXPECT_TRUE(near(routing.weights_TK, p_TE.gather(1, routing.experts_TK), 1e-6));
    EXPECT_TRUE(near(routing.probs_TE, p_TE, 1e-6));
  }
}

TEST(SinkhornRouterTest, R6_GradientsAreThoseOfTheSoftmax) {
  for (const int64_t K : {1, 2}) {
    const TensorFunction weights = [&](const std::vector<Tensor>& in) {
      return route(in[0], in[1], context_of(2, 6), K).weights_TK;
    };
    EXPECT_TRUE(
        gradients_match(weights, {normal_tensor({12, 5}, "x"), normal_tensor({4, 5}, "gate")}));
  }
}

TEST(SinkhornRouterTest, R6_PaddingHasNoPartInThePlan) {
  TokenContext context = context_of(2, 12);
  context.valid_T = at::ones({24}, at::kBool);
  context.valid_T.narrow(0, 8, 4).fill_(false);
  const Routing routing = route(sample_x(24), sample_gate(), context);
  const Routing alone = route(sample_x(24).narrow(0, 0, 8), sample_gate(), context_of(1, 8));
  EXPECT_TRUE(same(routing.experts_TK.narrow(0, 0, 8), alone.experts_TK));
}

TEST(SinkhornRouterTest, R6_SequencesRoutedInPiecesAreRoutedTheSame) {
  const Tensor x_TD = sample_x(50);
  const Routing whole = route(x_TD, sample_gate(), context_of(5, 10));
  const Routing first = route(x_TD.narrow(0, 0, 20), sample_gate(), context_of(2, 10));
  const Routing rest = route(x_TD.narrow(0, 20, 30), sample_gate(), context_of(3, 10, 2));
  EXPECT_TRUE(same(at::cat({first.experts_TK, rest.experts_TK}), whole.experts_TK));
}

TEST(SinkhornRouterTest, R6_EqualLogitsGoToTheLowestExpert) {
  const Routing routing = route(at::zeros({6, 4}), at::eye(4), context_of(1, 6));
  EXPECT_TRUE(same(routing.experts_TK, at::zeros({6, 1}, at::kLong)));
}

TEST(SinkhornRouterTest, R6_NoTokens) {
  const Routing routing = route(at::empty({0, 6}), sample_gate(), context_of(0, 5));
  EXPECT_EQ(routing.experts_TK.sizes(), (std::vector<int64_t>{0, 1}));
}

}  // namespace
}  // namespace switchyard
