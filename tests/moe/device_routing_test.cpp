#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "moe/capacity.h"
#include "moe/device_budget.h"
#include "moe/on_host.h"
#include "moe/sample_moe.h"
#include "moe/select_top_k.h"
#include "support/host_device.h"
#include "support/tensors.h"

// What routing decides of tensors on a device is what the CPU's own path decides. T tokens, E
// experts, K choices, R further ones.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t T = 48, E = 6, K = 3, R = 2;

/// Choices of random scores that have many ties, some of them left out.
struct Choices {
  Tensor probs_TE, experts_TK, kept_TK, probs_TK, reroute_TR;

  Choices() {
    probs_TE = ((normal_tensor({T, E}, "scores", at::kFloat) * 2).round() / 2).softmax(1);
    const Tensor ids = select_top_k(probs_TE, K + R);
    experts_TK = ids.narrow(1, 0, K).contiguous();
    reroute_TR = ids.narrow(1, K, R).contiguous();
    kept_TK = normal_tensor({T, K}, "kept", at::kFloat) > -1;
    probs_TK = probs_TE.gather(1, experts_TK);
  }
};

TokenContext groups_of(int64_t sequences) {
  TokenContext context = context_of(/*sequences=*/8, T / 8);
  context.tokens_per_group = sequences * T / 8;
  return context;
}

Tensor there(const Tensor& x) { return x.to(host_device()); }

TEST(DeviceRoutingTest, TiesGoToTheLowerExpert) {
  const Tensor scores_TE = (normal_tensor({64, 9}, "scores", at::kFloat) * 2).round();
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    for (const int64_t k : {1, 3, 9}) {
      const Tensor scores = scores_TE.to(dtype);
      EXPECT_TRUE(same(select_top_k(there(scores), k).cpu(), select_top_k(scores, k)));
    }
  }
  EXPECT_EQ(select_top_k(at::zeros({0, 4}).to(host_device()), 2).sizes(),
            (std::vector<int64_t>{0, 2}));
}

TEST(DeviceRoutingTest, CapacityKeepsTheSamePairsWithoutAWait) {
  const Choices choices;
  for (const auto priority : {Priority::kPosition, Priority::kChoice, Priority::kProbability,
                              Priority::kProbabilitySum, Priority::kRandom}) {
    for (const int64_t sequences : {1, 2, 8}) {
      for (const int64_t capacity : {1, 4, 100}) {
        const TokenContext context = groups_of(sequences);
        Tensor expected_TK = choices.kept_TK.clone(), kept_TK = there(choices.kept_TK);
        drop_over_capacity(choices.experts_TK, choices.probs_TK, E, capacity, priority, /*layer=*/3,
                           context, expected_TK);
        const Tensor experts_TK = there(choices.experts_TK), probs_TK = there(choices.probs_TK);
        const int64_t waits = host_device_traffic().to_host;
        drop_over_capacity(experts_TK, probs_TK, E, capacity, priority, /*layer=*/3, context,
                           kept_TK);
        EXPECT_EQ(host_device_traffic().to_host, waits);
        EXPECT_TRUE(same(kept_TK.cpu(), expected_TK));
      }
    }
  }
}

TEST(DeviceRoutingTest, TokensWithoutAPlaceGoWhereTheyGoOnTheHost) {
  const Choices choices;
  const TokenContext context = groups_of(2);
  Tensor experts = choices.experts_TK.clone(), kept = choices.kept_TK.clone(),
         experts_TK = there(experts), kept_TK = there(kept);
  const Tensor expected =
      drop_and_reroute(choices.reroute_TR, experts, choices.probs_TK, E, /*capacity=*/5,
                       Priority::kPosition, /*layer=*/0, context, kept);
  const Tensor rerouted =
      drop_and_reroute(there(choices.reroute_TR), experts_TK, there(choices.probs_TK), E, 5,
                       Priority::kPosition, 0, context, kept_TK);
  EXPECT_GT(expected.sum().item<int64_t>(), 0);
  EXPECT_TRUE(same(rerouted.cpu(), expected));
  EXPECT_TRUE(same(experts_TK.cpu(), experts));
  EXPECT_TRUE(same(kept_TK.cpu(), kept));
}

TEST(DeviceRoutingTest, BudgetsOfExpertGroupsKeepTheSamePairs) {
  const Choices choices;
  const TokenContext context = groups_of(2);
  const DeviceBudget budget{E, /*groups=*/2, /*slots=*/7, /*protected_fraction=*/0.3};
  Tensor kept = choices.kept_TK.clone(), kept_TK = there(kept);
  drop_over_device_budget(choices.experts_TK, choices.probs_TK, budget, context, kept);
  drop_over_device_budget(there(choices.experts_TK), there(choices.probs_TK), budget, context,
                          kept_TK);
  EXPECT_TRUE(same(kept_TK.cpu(), kept));
}

TEST(DeviceRoutingTest, ADecisionOnTheHostComesBack) {
  const auto decide = [](const Tensor& x) {
    EXPECT_TRUE(x.is_cpu());
    return x.argmax(1);
  };
  const Tensor x = normal_tensor({5, 4}, "x", at::kFloat), device_x = there(x);
  const int64_t waits = host_device_traffic().to_host;
  const Tensor decision = decided_on_host(device_x, decide);
  EXPECT_EQ(host_device_traffic().to_host, waits + 1);
  EXPECT_EQ(decision.device(), host_device());
  EXPECT_TRUE(same(decision.cpu(), decided_on_host(x, decide)));
}

}  // namespace
}  // namespace switchyard
