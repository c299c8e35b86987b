#include "moe/routers/sparse_ot_router.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "moe/routers/sparse_transport.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, K places per token, D model width.

namespace switchyard {
namespace {

using at::Tensor;

RouterConfig sparse_ot(const std::string& limit, const std::string& weights = "softmax") {
  RouterConfig config;
  config.type = "sparse_ot";
  config.sparse_ot.limit = limit;
  config.sparse_ot.weights = weights;
  return config;
}

constexpr int64_t kTopK = 2;

Routing route(const RouterConfig& config, const Tensor& x_TD, const Tensor& gate_ED,
              const TokenContext& context) {
  return SparseOtRouter(config, place_of(x_TD.size(1), gate_ED.size(0), kTopK))
      .route(x_TD, {{gate_ED}, {}}, context);
}

Tensor sample_x(int64_t T) { return normal_tensor({T, 6}, "hidden states", at::kFloat); }
Tensor sample_gate() { return normal_tensor({8, 6}, "gate", at::kFloat); }

Tensor table(const Routing& routing, int64_t E) {
  return at::zeros({routing.experts_TK.size(0), E}, routing.weights_TK.scalar_type())
      .scatter(1, routing.experts_TK, kept_weights(routing));
}

Tensor plan_of(const RouterConfig& config, const Tensor& probs_TE, int64_t nonzeros) {
  const SparseOtConfig& ot = config.sparse_ot;
  const TransportLimit limit =
      ot.limit == "token" ? TransportLimit::kToken : TransportLimit::kExpert;
  return sparse_transport(probs_TE, {ot.gamma, ot.iterations, ot.lr, limit, nonzeros});
}

TEST(SparseOtRouterTest, R7_ChoosesWhereThePlanOfEachGroupIsNotZero) {
  for (const char* limit : {"expert", "token"}) {
    const RouterConfig config = sparse_ot(limit);
    const Routing softmax = route(config, sample_x(60), sample_gate(), context_of(3, 20));
    const Routing plan =
        route(sparse_ot(limit, "plan"), sample_x(60), sample_gate(), context_of(3, 20));
    EXPECT_TRUE(same(softmax.kept_TK, plan.kept_TK));
    for (int64_t g = 0; g < 3; ++g) {
      const Tensor probs_NE = softmax.probs_TE.narrow(0, g * 20, 20);
      const Tensor plan_NE = plan_of(config, probs_NE, limit[0] == 't' ? 2 : 5);  // 20 * 2 / 8
      EXPECT_TRUE(same(table(plan, 8).narrow(0, g * 20, 20), plan_NE));
      EXPECT_TRUE(same(table(softmax, 8).narrow(0, g * 20, 20), probs_NE * (plan_NE > 0)));
    }
  }
}

TEST(SparseOtRouterTest, R7_NonzerosAreLimited) {
  const Routing by_expert =
      route(sparse_ot("expert"), sample_x(60), sample_gate(), context_of(3, 20));
  EXPECT_EQ(by_expert.experts_TK.size(1), 8);
  for (int64_t g = 0; g < 3; ++g) {
    const Tensor kept = by_expert.kept_TK.narrow(0, g * 20, 20);
    const Tensor loads_E =
        at::bincount(by_expert.experts_TK.narrow(0, g * 20, 20).masked_select(kept), {}, 8);
    EXPECT_EQ(loads_E.max().item<int64_t>(), 5);
    EXPECT_GE(loads_E.sum().item<int64_t>(), 36);
  }
  const Routing by_token =
      route(sparse_ot("token"), sample_x(60), sample_gate(), context_of(3, 20));
  EXPECT_EQ(by_token.experts_TK.size(1), kTopK);
  EXPECT_TRUE(by_token.kept_TK.select(1, 0).all().item<bool>());
}

TEST(SparseOtRouterTest, R7_GradientsOfSoftmaxWeights) {
  for (const char* limit : {"expert", "token"}) {
    const TensorFunction weights = [&](const std::vector<Tensor>& in) {
      return table(route(sparse_ot(limit), in[0], in[1], context_of(2, 6)), 4);
    };
    EXPECT_TRUE(
        gradients_match(weights, {normal_tensor({12, 5}, "x"), normal_tensor({4, 5}, "gate")}));
  }
}

TEST(SparseOtRouterTest, R7_GradientsOfPlanWeightsHoldThePotentials) {
  for (const char* limit : {"expert", "token"}) {
    RouterConfig config = sparse_ot(limit, "plan");
    config.sparse_ot.lr = 1e-300;  // the potentials stay zero
    config.sparse_ot.gamma = 0.3;
    const TensorFunction weights = [&](const std::vector<Tensor>& in) {
      return table(route(config, in[0], in[1], context_of(2, 6)), 4);
    };
    EXPECT_TRUE(
        gradients_match(weights, {normal_tensor({12, 5}, "x"), normal_tensor({4, 5}, "gate")}));
  }
}

TEST(SparseOtRouterTest, R7_PaddingHasNoPartInThePlan) {
  TokenContext context = context_of(2, 12);
  context.valid_T = at::ones({24}, at::kBool);
  context.valid_T.narrow(0, 8, 4).fill_(false);
  for (const char* limit : {"expert", "token"}) {
    const Routing routing = route(sparse_ot(limit), sample_x(24), sample_gate(), context);
    EXPECT_FALSE(routing.kept_TK.narrow(0, 8, 4).any().item<bool>());
    const Routing alone =
        route(sparse_ot(limit), sample_x(24).narrow(0, 0, 8), sample_gate(), context_of(1, 8));
    EXPECT_TRUE(near(table(routing, 8).narrow(0, 0, 8), table(alone, 8), 1e-6));
  }
}

TEST(SparseOtRouterTest, R7_SequencesRoutedInPiecesAreRoutedTheSame) {
  const Tensor x_TD = sample_x(50);
  for (const char* limit : {"expert", "token"}) {
    const RouterConfig config = sparse_ot(limit);
    const Routing whole = route(config, x_TD, sample_gate(), context_of(5, 10));
    const Routing first = route(config, x_TD.narrow(0, 0, 20), sample_gate(), context_of(2, 10));
    const Routing rest = route(config, x_TD.narrow(0, 20, 30), sample_gate(), context_of(3, 10, 2));
    EXPECT_TRUE(same(at::cat({first.experts_TK, rest.experts_TK}), whole.experts_TK));
    EXPECT_TRUE(same(at::cat({first.kept_TK, rest.kept_TK}), whole.kept_TK));
  }
}

TEST(SparseOtRouterTest, R7_NoTokens) {
  for (const char* limit : {"expert", "token"}) {
    const Routing routing =
        route(sparse_ot(limit, "plan"), at::empty({0, 6}), sample_gate(), context_of(0, 5));
    EXPECT_EQ(routing.experts_TK.size(0), 0);
    EXPECT_EQ(routing.kept_TK.sizes(), routing.weights_TK.sizes());
  }
}

}  // namespace
}  // namespace switchyard
