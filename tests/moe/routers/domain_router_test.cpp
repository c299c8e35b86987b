#include "moe/routers/domain_router.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts.

namespace switchyard {
namespace {

using at::Tensor;

RouterConfig domain() {
  RouterConfig config;
  config.type = "domain";
  return config;
}

TokenContext context_with(const std::vector<int64_t>& domains, int64_t length) {
  TokenContext context = context_of(static_cast<int64_t>(domains.size()), length);
  context.domains_T = at::tensor(domains, at::kLong).repeat_interleave(length);
  return context;
}

TEST(DomainRouterTest, P1_EveryTokenGoesToTheExpertOfItsDomain) {
  const DomainRouter router(domain(), place_of(6, 4, 1));
  EXPECT_TRUE(router.weights().empty());
  const TokenContext context = context_with({2, 0, 3, 2}, 5);
  const Routing routing = router.route(normal_tensor({20, 6}, "x", at::kFloat), {}, context);
  EXPECT_TRUE(same(routing.experts_TK.squeeze(1), context.domains_T));
  EXPECT_TRUE(same(routing.weights_TK, at::ones({20, 1})));
  EXPECT_TRUE(same(routing.probs_TE, at::one_hot(context.domains_T, 4).to(at::kFloat)));
}

TEST(DomainRouterTest, P1_OtherExpertsHaveAGradientOfExactlyZero) {
  MoeConfig config = sample_moe_config(1);
  config.router = domain();
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), config, mesh);
  const Tensor x_TD = normal_tensor({12, 6}, "x", at::kFloat);
  for (int64_t d = 0; d < 8; ++d) {
    moe.store.zero_gradients();
    const MoeOutput output = moe.layer.forward(x_TD, context_with({d, d}, 6));
    output.y_TD.square().sum().backward();
    for (const PlacedPart& placed : moe.store.parts()) {
      const Tensor gradient = moe.store.gradient_of(placed);
      const bool is_own =
          placed.part.name.find("experts." + std::to_string(d) + ".") != std::string::npos;
      EXPECT_EQ(gradient.ne(0).any().item<bool>(), is_own) << placed.part.name << " of " << d;
    }
  }
}

TEST(DomainRouterTest, P1_OtherDomainsDoNotChangeAnOutput) {
  MoeConfig config = sample_moe_config(1);
  config.router = domain();
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), config, mesh);
  const Tensor x_TD = normal_tensor({12, 6}, "x", at::kFloat);
  const Tensor before = moe.layer.forward(x_TD, context_with({1, 3}, 6)).y_TD.detach().clone();
  moe.weight("experts.3.up_proj.weight").zero_();
  const Tensor after = moe.layer.forward(x_TD, context_with({1, 3}, 6)).y_TD.detach();
  EXPECT_TRUE(same(after.narrow(0, 0, 6), before.narrow(0, 0, 6)));
  EXPECT_TRUE(same(after.narrow(0, 6, 6), at::zeros({6, 6})));
}

TEST(DomainRouterTest, P1_RefusesADomainThatIsUnknownOrNotTold) {
  const DomainRouter router(domain(), place_of(6, 4, 1));
  const Tensor x_TD = at::zeros({5, 6});
  EXPECT_THROW(router.route(x_TD, {}, context_of(1, 5)), c10::Error);
  EXPECT_THROW(router.route(x_TD, {}, context_with({4}, 5)), c10::Error);
  EXPECT_THROW(router.route(x_TD, {}, context_with({-1}, 5)), c10::Error);
  EXPECT_THROW(DomainRouter(domain(), place_of(6, 4, 2)), ConfigError);
}

TEST(DomainRouterTest, P1_NoTokens) {
  const DomainRouter router(domain(), place_of(6, 4, 1));
  const Routing routing = router.route(at::zeros({0, 6}), {}, context_of(0, 5));
  EXPECT_EQ(routing.experts_TK.sizes(), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(routing.probs_TE.sizes(), (std::vector<int64_t>{0, 4}));
}

}  // namespace
}  // namespace switchyard
