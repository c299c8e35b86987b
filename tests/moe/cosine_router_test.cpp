#include "moe/cosine_router.h"

#include <gtest/gtest.h>

#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, K experts per token, D model width.

namespace switchyard {
namespace {

using at::Tensor;

Routing route(const Tensor& x_TD, const Tensor& gate_ED, int64_t first = 0) {
  return CosineRouter({}, place_of(x_TD.size(1), gate_ED.size(0), 2))
      .route(x_TD, {{gate_ED}, {}}, context_of(1, x_TD.size(0), first));
}

TEST(CosineRouterTest, EqualsTheFormulaByLoops) {
  const Tensor x_TD = normal_tensor({20, 4}, "hidden states"), gate_ED = normal_tensor({5, 4}, "w");
  const Routing routing = route(x_TD, gate_ED);
  for (int64_t t = 0; t < 20; ++t) {
    for (int64_t e = 0; e < 5; ++e) {
      const double cosine = x_TD[t].dot(gate_ED[e]).item<double>() /
                            (x_TD[t].norm() * gate_ED[e].norm()).item<double>();
      EXPECT_NEAR(routing.logits_TE[t][e].item<double>(), cosine / 0.07, 1e-9);
    }
  }
}

TEST(CosineRouterTest, TheLengthOfATokenHasNoSay) {
  const Tensor x_TD = normal_tensor({20, 4}, "hidden states"), gate_ED = normal_tensor({5, 4}, "w");
  EXPECT_TRUE(near(route(3 * x_TD, gate_ED).weights_TK, route(x_TD, gate_ED).weights_TK, 1e-9));
}

TEST(CosineRouterTest, GradientsMatchFiniteDifferences) {
  const TensorFunction f = [](const auto& in) {
    const Routing routing = route(in[0], in[1]);
    return at::cat({routing.weights_TK, routing.probs_TE}, 1);
  };
  EXPECT_TRUE(gradients_match(
      f, {normal_tensor({5, 3}, "hidden states"), normal_tensor({4, 3}, "w")}, 1e-6));
}

TEST(CosineRouterTest, DoesNotKnowTheLayout) {
  const Tensor x_TD = normal_tensor({50, 4}, "hidden states"), gate_ED = normal_tensor({6, 4}, "w");
  const Routing whole = route(x_TD, gate_ED), rest = route(x_TD.narrow(0, 20, 30), gate_ED, 20);
  EXPECT_TRUE(same(rest.experts_TK, whole.experts_TK.narrow(0, 20, 30)));
}

}  // namespace
}  // namespace switchyard
