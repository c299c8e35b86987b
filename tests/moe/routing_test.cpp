#include "moe/routing.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "moe/sample_moe.h"
#include "support/tensors.h"

namespace switchyard {
namespace {

using at::Tensor;

Routing routing_of(bool normalize_after_drop) {
  Routing routing;
  routing.weights_TK = at::tensor({0.5, 0.25, 0.6, 0.3, 0.4, 0.1}, at::kFloat).view({3, 2});
  routing.kept_TK = bools({1, 1, 1, 0, 0, 0}).view({3, 2});
  routing.normalize_after_drop = normalize_after_drop;
  return routing;
}

TEST(KeptWeightsTest, AreZeroWhereNotKept) {
  EXPECT_TRUE(same(kept_weights(routing_of(false)),
                   at::tensor({0.5, 0.25, 0.6, 0.0, 0.0, 0.0}, at::kFloat).view({3, 2})));
}

TEST(KeptWeightsTest, AfterDropSumToOneOrZero) {
  const Tensor expected =
      at::tensor({2.0 / 3, 1.0 / 3, 1.0, 0.0, 0.0, 0.0}, at::kFloat).view({3, 2});
  EXPECT_TRUE(near(kept_weights(routing_of(true)), expected, 1e-6));
}

TEST(KeptWeightsTest, ADroppedTokenHasAZeroGradientAndNoNan) {
  for (const bool after_drop : {false, true}) {
    Routing routing = routing_of(after_drop);
    routing.weights_TK.set_requires_grad(true);
    (kept_weights(routing) * at::tensor({1.0, 3.0}, at::kFloat)).sum().backward();
    const Tensor gradient = routing.weights_TK.grad();
    EXPECT_TRUE(same(gradient[2], at::zeros({2})));
    EXPECT_EQ(gradient[1][1].item<float>(), 0);
    EXPECT_NE(gradient[0][1].item<float>(), 0);
  }
}

}  // namespace
}  // namespace switchyard
