#include "moe/drop_tokens.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "moe/capacity.h"
#include "moe/routers/topk_router.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, K experts per token, R further choices.

namespace switchyard {
namespace {

using at::Tensor;

Tensor column(std::vector<int64_t> values) { return at::tensor(values, at::kLong).unsqueeze(1); }

struct Rerouted {
  Tensor experts_TK, kept_TK, rerouted_TK;
};
Rerouted reroute(const Tensor& experts_TK, const Tensor& reroute_TR, int64_t E, int64_t capacity,
                 Priority priority, Tensor kept_TK = {}) {
  Rerouted result{experts_TK.clone(),
                  kept_TK.defined() ? kept_TK.clone() : at::ones(experts_TK.sizes(), at::kBool),
                  {}};
  result.rerouted_TK =
      drop_and_reroute(reroute_TR, result.experts_TK, at::ones(experts_TK.sizes()), E, capacity,
                       priority, 0, context_of(1, experts_TK.size(0)), result.kept_TK);
  return result;
}

// One slot each. Token 0 takes expert 0; token 1 wants it too and takes 1 before token 2,
// whose first choice that is, comes: then 2 goes on to 2, and 3, with 0 and 1, has none.
TEST(DropTokensTest, C3_NoTokenLeftBehindInTheOrderOfTokens) {
  const Rerouted result =
      reroute(column({0, 0, 1, 0}), at::tensor({1, 2, 1, 2, 2, 0, 1, 0}, at::kLong).view({4, 2}), 3,
              1, Priority::kPosition);
  EXPECT_TRUE(same(result.experts_TK, column({0, 1, 2, 0})));
  EXPECT_TRUE(same(result.kept_TK, bools({1, 1, 1, 0}).view({4, 1})));
  EXPECT_TRUE(same(result.rerouted_TK, bools({0, 1, 1, 0}).view({4, 1})));
}

// By rank: first choices of all, so token 2 has expert 1; then second ones: token 1 finds
// 1 full, token 3 wants 2 and takes it; third: token 1 finds 2 full.
TEST(DropTokensTest, C3_NoTokenLeftBehindRankByRank) {
  const Tensor further_TR = at::tensor({1, 2, 1, 2, 2, 0, 2, 1}, at::kLong).view({4, 2});
  const Rerouted result = reroute(column({0, 0, 1, 0}), further_TR, 3, 1, Priority::kChoice);
  EXPECT_TRUE(same(result.experts_TK, column({0, 0, 1, 2})));
  EXPECT_TRUE(same(result.kept_TK, bools({1, 0, 1, 1}).view({4, 1})));
  EXPECT_TRUE(same(result.rerouted_TK, bools({0, 0, 0, 1}).view({4, 1})));
}

TEST(DropTokensTest, C3_ATokenThatHasAnExpertIsNotRerouted) {
  const Tensor experts_TK = at::tensor({0, 1, 0, 2, 0, 1}, at::kLong).view({3, 2});
  const Tensor further_TR = column({3, 3, 3});
  for (const Priority priority : {Priority::kPosition, Priority::kChoice}) {
    const Rerouted result = reroute(experts_TK, further_TR, 4, 1, priority);
    // Token 1 lost expert 0 and has 2; token 2 lost both: 3 takes the place of its first.
    EXPECT_TRUE(same(result.kept_TK, bools({1, 1, 0, 1, 1, 0}).view({3, 2})));
    EXPECT_TRUE(same(result.experts_TK, at::tensor({0, 1, 0, 2, 3, 1}, at::kLong).view({3, 2})));
    EXPECT_EQ(result.rerouted_TK.sum().item<int64_t>(), 1);
  }
}

// Padding, and what the router left out, asks for nothing; -1 is no choice.
TEST(DropTokensTest, C3_WhoAskedForNothingIsNotRerouted) {
  const Rerouted result = reroute(column({0, 0, 0}), column({1, 1, -1}), 2, 1, Priority::kPosition,
                                  bools({1, 0, 1}).view({3, 1}));
  EXPECT_TRUE(same(result.kept_TK, bools({1, 0, 0}).view({3, 1})));
  EXPECT_FALSE(result.rerouted_TK.any().item<bool>());
}

MoeConfig rerouting_config(int64_t choices, const char* priority = "position") {
  MoeConfig config = sample_moe_config(1);
  config.router.type = "switch";
  config.router.reroute_choices = choices;
  config.capacity.factor = 1.0;
  config.capacity.min = 1;
  config.capacity.priority = priority;
  return config;
}

Routing route_and_drop(const MoeConfig& config, const Tensor& logits_TE,
                       const TokenContext& context) {
  Routing routing =
      TopKRouter(config.router, place_of(8, 8, config.top_k))
          .route(logits_TE, {{at::eye(8, logits_TE.options().requires_grad(false))}, {}}, context);
  drop_tokens(routing, config, /*layer=*/0, context);
  return routing;
}

// T = E * C slots and all experts as further choices: nobody stays behind, and no
// expert has more than its slots. A rerouted token weighs the new expert's probability.
TEST(DropTokensTest, C3_WithAllFurtherChoicesEveryTokenFindsASlot) {
  const Tensor logits_TE = normal_tensor({48, 8}, "logits") + at::linspace(0, 3, 8);
  const TokenContext context = context_of(2, 24);
  for (const char* priority : {"position", "choice", "probability", "random"}) {
    const Routing without = route_and_drop(rerouting_config(0, priority), logits_TE, context);
    const Routing routing = route_and_drop(rerouting_config(7, priority), logits_TE, context);
    EXPECT_GT(without.kept_TK.logical_not().sum().item<int64_t>(), 10);
    EXPECT_TRUE(routing.kept_TK.all().item<bool>()) << priority;
    for (int64_t g = 0; g < 2; ++g) {
      EXPECT_TRUE(same(at::bincount(routing.experts_TK.narrow(0, 24 * g, 24).flatten(), {}, 8),
                       at::full({8}, 3, at::kLong)));
    }
    EXPECT_TRUE(same(routing.weights_TK, routing.probs_TE.gather(1, routing.experts_TK)));
    if (std::string(priority) != "choice") continue;
    // First choices come first: what had a slot without rerouting keeps its expert.
    EXPECT_TRUE(same(routing.experts_TK.masked_select(without.kept_TK),
                     without.experts_TK.masked_select(without.kept_TK)));
  }
}

TEST(DropTokensTest, C3_FewFurtherChoicesLeaveFewerBehind) {
  const Tensor logits_TE = normal_tensor({48, 8}, "logits") + at::linspace(0, 3, 8);
  int64_t before = 48;
  for (const int64_t choices : {0, 1, 3, 7}) {
    const Tensor kept =
        route_and_drop(rerouting_config(choices), logits_TE, context_of(1, 48)).kept_TK;
    const int64_t dropped = kept.logical_not().sum().item<int64_t>();
    EXPECT_LT(dropped, before) << choices;
    before = dropped;
  }
}

TEST(DropTokensTest, C3_RerouteByPositionNeverLooksAtLaterTokens) {
  const Tensor logits_TE = normal_tensor({48, 8}, "logits") + at::linspace(0, 3, 8);
  const Tensor other_TE =
      at::cat({logits_TE.narrow(0, 0, 24), normal_tensor({24, 8}, "other logits")});
  const auto first_half = [](const MoeConfig& config, const Tensor& z_TE) {
    const Routing routing = route_and_drop(config, z_TE, context_of(1, 48));
    return at::where(routing.kept_TK, routing.experts_TK, -1).narrow(0, 0, 24);
  };
  EXPECT_TRUE(
      same(first_half(rerouting_config(4), logits_TE), first_half(rerouting_config(4), other_TE)));
  EXPECT_FALSE(at::equal(first_half(rerouting_config(4, "choice"), logits_TE),
                         first_half(rerouting_config(4, "choice"), other_TE)));
}

TEST(DropTokensTest, C3_TheGradientOfARerouteIsThatOfItsNewWeight) {
  const MoeConfig config = rerouting_config(4);
  const TensorFunction f = [&](const auto& in) {
    return kept_weights(route_and_drop(config, in[0], context_of(1, 16)));
  };
  const Tensor logits_TE = normal_tensor({16, 8}, "logits") + at::linspace(0, 3, 8);
  EXPECT_TRUE(gradients_match(f, {logits_TE}, 1e-7));
}

// The router's own choice stays what it is counted by; rerouting works in evaluation too.
TEST(DropTokensTest, C3_TheLayerCountsFirstChoicesAndDropsNobody) {
  MoeConfig config = rerouting_config(7);
  config.capacity.eval_factor = 1.0;
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), config, mesh);
  moe.weight("gate.weight").zero_();
  moe.weight("gate.weight")[5].fill_(1);
  const Tensor x_TD = normal_tensor({24, 6}, "hidden states", at::kFloat).abs();
  for (const Mode mode : {Mode::kTrain, Mode::kEval}) {
    TokenContext context = context_of(1, 24);
    context.mode = mode;
    const RouterRecord record = moe.layer.forward(x_TD, context).record;
    EXPECT_EQ(record.counts.first_GE[0][5].item<double>(), 24);
    EXPECT_EQ(record.dropped_pairs.item<int64_t>(), 0);
    EXPECT_TRUE(
        same(at::bincount(record.experts_TK.flatten(), {}, 8), at::full({8}, 3, at::kLong)));
  }
}

TEST(DropTokensTest, NoTokens) {
  const Routing routing =
      route_and_drop(rerouting_config(3), at::empty({0, 8}, at::kDouble), context_of(0, 6));
  EXPECT_EQ(routing.kept_TK.sizes(), (std::vector<int64_t>{0, 1}));
}

}  // namespace
}  // namespace switchyard
