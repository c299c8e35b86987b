#include "ops/rotary.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "support/tensors.h"

// B sequences of S positions, N heads of dimension H.

namespace switchyard {
namespace {

RotaryTable table_of(int64_t first, int64_t count, int64_t head_dim, double theta) {
  ModelConfig model;
  model.head_dim = head_dim;
  model.rope_theta = theta;
  return rotary_table(first, count, rotary_frequencies(model));
}

using at::Tensor;

TEST(RotaryTest, AnglesByHand) {
  // theta^(-2 i / 4) is 1 and 1 / 100 for theta 10,000.
  const RotaryTable table = table_of(/*first=*/3, /*count=*/2, /*head_dim=*/4, 10000);
  EXPECT_EQ(table.cos_SH.scalar_type(), at::kFloat);
  const std::vector<double> angles = {3, 0.03, 4, 0.04};
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_FLOAT_EQ(table.cos_SH[i / 2][i % 2].item<float>(), std::cos(angles[i]));
    EXPECT_FLOAT_EQ(table.sin_SH[i / 2][i % 2].item<float>(), std::sin(angles[i]));
  }
  EXPECT_FLOAT_EQ(table_of(7, 1, 4, 1e6).sin_SH[0][1].item<float>(), std::sin(0.007));
}

TEST(RotaryTest, ALatePositionIsAsExactAsAnEarlyOne) {
  const RotaryTable late = table_of(1'000'000, 1, 8, 500000);
  EXPECT_FLOAT_EQ(late.cos_SH[0][0].item<float>(), std::cos(1e6));
  EXPECT_FLOAT_EQ(late.sin_SH[0][1].item<float>(), std::sin(1e6 * std::pow(500000, -0.25)));
}

TEST(RotaryTest, ATableThatStartsLaterIsACutOfTheWhole) {
  const RotaryTable whole = table_of(0, 12, 6, 10000), part = table_of(5, 4, 6, 10000);
  EXPECT_TRUE(same(part.cos_SH, whole.cos_SH.narrow(0, 5, 4)));
  EXPECT_TRUE(same(part.sin_SH, whole.sin_SH.narrow(0, 5, 4)));
}

TEST(RotaryTest, IsAComplexMultiplication) {
  const Tensor x_BSNH = normal_tensor({2, 5, 3, 8}, "x");
  const RotaryTable table = table_of(2, 5, 8, 10000);
  const auto halves = x_BSNH.chunk(2, /*dim=*/-1);
  const Tensor turn_SH = at::complex(table.cos_SH.to(at::kDouble), table.sin_SH.to(at::kDouble));
  const Tensor turned = at::complex(halves[0], halves[1]) * turn_SH.view({1, 5, 1, 4});
  const Tensor expected = at::cat({at::real(turned), at::imag(turned)}, /*dim=*/-1);
  EXPECT_TRUE(near(apply_rotary(x_BSNH, table), expected, 1e-14));
  EXPECT_TRUE(near(apply_rotary(x_BSNH.to(at::kFloat), table), expected.to(at::kFloat), 1e-6));
  const Tensor half = x_BSNH.to(at::kBFloat16);
  EXPECT_TRUE(near(apply_rotary(half, table),
                   apply_rotary(half.to(at::kDouble), table).to(at::kBFloat16), 0x1.0p-8));
}

TEST(RotaryTest, PositionZeroStandsStill) {
  const Tensor x_BSNH = normal_tensor({2, 1, 3, 8}, "x");
  EXPECT_TRUE(same(apply_rotary(x_BSNH, table_of(0, 1, 8, 10000)), x_BSNH));
}

TEST(RotaryTest, TheOppositeTurnBringsEverythingBack) {
  const Tensor x_BSNH = normal_tensor({1, 6, 2, 8}, "x");
  const RotaryTable there = table_of(0, 6, 8, 10000), back{there.cos_SH, -there.sin_SH};
  EXPECT_TRUE(near(apply_rotary(apply_rotary(x_BSNH, there), back), x_BSNH, 1e-6));
}

TEST(RotaryTest, AScoreDependsOnTheDistanceOnly) {
  const Tensor q = normal_tensor({1, 1, 1, 8}, "q"), k = normal_tensor({1, 1, 1, 8}, "k");
  const auto score = [&](int64_t at_q, int64_t at_k) {
    return (apply_rotary(q, table_of(at_q, 1, 8, 100)) * apply_rotary(k, table_of(at_k, 1, 8, 100)))
        .sum()
        .item<double>();
  };
  EXPECT_NEAR(score(9, 4), score(5, 0), 1e-6);
  EXPECT_NEAR(score(105, 100), score(5, 0), 1e-6);
  EXPECT_GT(std::abs(score(5, 0) - score(4, 0)), 1e-3);
}

TEST(RotaryTest, TakesWhatIsNotContiguous) {
  const Tensor x_BNSH = normal_tensor({2, 3, 5, 4}, "x");
  const RotaryTable table = table_of(0, 5, 4, 10000);
  EXPECT_TRUE(same(apply_rotary(x_BNSH.transpose(1, 2), table),
                   apply_rotary(x_BNSH.transpose(1, 2).contiguous(), table)));
}

TEST(RotaryTest, GradientsMatchFiniteDifferences) {
  const RotaryTable table = table_of(1, 3, 4, 100);
  EXPECT_TRUE(
      gradients_match([&](const std::vector<Tensor>& in) { return apply_rotary(in[0], table); },
                      {normal_tensor({2, 3, 2, 4}, "x")}));
}

TEST(RotaryTest, APartIsRotatedAndTheRestLeft) {
  ModelConfig model;
  model.head_dim = 8;
  model.partial_rotary_factor = 0.5;
  const RotaryTable half = rotary_table(0, 3, rotary_frequencies(model));
  ASSERT_EQ(half.cos_SH.size(1), 2);
  const Tensor x_BSNH = at::randn({2, 3, 2, 8});
  const Tensor y_BSNH = apply_rotary(x_BSNH, half);
  EXPECT_TRUE(same(y_BSNH.narrow(3, 4, 4), x_BSNH.narrow(3, 4, 4)));
  EXPECT_TRUE(
      same(y_BSNH.narrow(3, 0, 4), apply_rotary(x_BSNH.narrow(3, 0, 4), table_of(0, 3, 4, 10000))));
}

TEST(RotaryTest, ScalingStretchesAllOrTheSlowWaves) {
  ModelConfig model;
  model.head_dim = 6;
  model.rope_theta = 1e6;  // frequencies 1, 0.01, 0.0001: 159, 1.6 and 0.016 waves in 1,000
  model.rope_scaling = {"linear", 4.0, 1.0, 4.0, 1000};
  const Tensor linear_H = rotary_frequencies(model);
  EXPECT_TRUE(at::allclose(linear_H, at::tensor({0.25, 0.0025, 0.000025}, at::kDouble)));
  model.rope_scaling.type = "llama3";
  const Tensor llama3_H = rotary_frequencies(model);
  const double kept = (1000 * 0.01 / (2 * M_PI) - 1) / 3;  // between 1 and 4 waves: in part
  EXPECT_TRUE(at::allclose(
      llama3_H, at::tensor({1.0, 0.01 * (kept + (1 - kept) / 4), 0.000025}, at::kDouble)));
}

TEST(RotaryTest, RefusesATableThatDoesNotFit) {
  const RotaryTable table = table_of(0, 3, 4, 10000);
  EXPECT_THROW(apply_rotary(at::ones({1, 4, 1, 4}), table), c10::Error);
  EXPECT_THROW(apply_rotary(at::ones({1, 3, 1, 2}), table), c10::Error);
  EXPECT_THROW(apply_rotary(at::ones({3, 1, 4}), table), c10::Error);
}

}  // namespace
}  // namespace switchyard
