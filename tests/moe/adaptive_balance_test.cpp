#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "moe/sample_moe.h"
#include "support/tensors.h"

// The coefficient of a balance loss that follows the share of dropped tokens.

namespace switchyard {
namespace {

using at::Tensor;

/// Two entries, the second of which stays.
MoeConfig adaptive_config(double coef = 0.02, double beta = 0.9) {
  MoeConfig config = sample_moe_config();
  config.balance = {BalanceConfig{}, BalanceConfig{}};
  config.balance[0].coef = coef;
  config.balance[0].adaptive = {0.2, beta, 0.01};
  config.balance[1].coef = 0.003;
  return config;
}

void step(MoeLayer& layer, double dropped) {
  layer.update_state({at::ones({8}, at::kDouble), 1.0, dropped, 0.0});
}

Tensor coefs(const MoeLayer& layer) { return layer.state().back().second; }

// alpha_n = target + (alpha_0 - target) beta^n, target = min(0.2 d, 0.01).
TEST(AdaptiveBalanceTest, R10_TheTrajectoryOfAConstantShareIsGeometric) {
  for (const double dropped : {0.0, 0.01, 0.03, 0.5}) {
    for (const double beta : {0.0, 0.9, 0.99}) {
      const Mesh mesh = solo_mesh();
      SampleMoe moe(sample_model(), adaptive_config(0.02, beta), mesh);
      const double target = std::min(0.2 * dropped, 0.01);
      for (int n = 1; n <= 100; ++n) {
        step(moe.layer, dropped);
        const double expected = target + (0.02 - target) * std::pow(beta, n);
        EXPECT_NEAR(coefs(moe.layer)[0].item<double>(), expected, 1e-7) << dropped << " " << n;
      }
    }
  }
}

TEST(AdaptiveBalanceTest, R10_WithoutDropsItDecays) {
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), adaptive_config(), mesh);
  double before = coefs(moe.layer)[0].item<double>();
  for (int n = 0; n < 50; ++n) {
    step(moe.layer, 0.0);
    const double now = coefs(moe.layer)[0].item<double>();
    EXPECT_LT(now, before);
    before = now;
  }
  EXPECT_LT(before, 2e-4);
}

TEST(AdaptiveBalanceTest, R10_EntriesThatAreNotAdaptiveStay) {
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), adaptive_config(), mesh);
  for (int n = 0; n < 10; ++n) step(moe.layer, 0.4);
  EXPECT_EQ(coefs(moe.layer)[1].item<float>(), 0.003F);
}

TEST(AdaptiveBalanceTest, R10_IsStateOfTheLayerAndInItsRecord) {
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), adaptive_config(), mesh);
  ASSERT_EQ(moe.layer.state().size(), 1U);
  EXPECT_EQ(moe.layer.state()[0].first, "mlp.balance_coef");
  EXPECT_TRUE(same(coefs(moe.layer), at::tensor({0.02, 0.003}, at::kFloat)));
  // What a checkpoint writes into the state is what the next step goes on from.
  coefs(moe.layer)[0].fill_(0.5);
  const Tensor x_TD = normal_tensor({24, 6}, "hidden states", at::kFloat);
  const RouterRecord record = moe.layer.forward(x_TD, context_of(1, 24)).record;
  EXPECT_TRUE(same(record.balance_coef_N, at::tensor({0.5, 0.003}, at::kFloat)));
  step(moe.layer, 0.0);
  EXPECT_NEAR(coefs(moe.layer)[0].item<double>(), 0.45, 1e-7);
}

TEST(AdaptiveBalanceTest, R10_StandsBesideTheRoutersState) {
  MoeConfig config = adaptive_config();
  config.router.selection_bias = true;
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), config, mesh);
  ASSERT_EQ(moe.layer.state().size(), 2U);
  EXPECT_EQ(moe.layer.state()[0].first, "mlp.gate.e_score_correction_bias");
  EXPECT_EQ(moe.layer.state()[1].first, "mlp.balance_coef");
}

TEST(AdaptiveBalanceTest, R10_WithoutARateThereIsNoState) {
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), sample_moe_config(), mesh);
  EXPECT_TRUE(moe.layer.state().empty());
}

}  // namespace
}  // namespace switchyard
