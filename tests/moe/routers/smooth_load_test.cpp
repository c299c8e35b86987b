#include "moe/routers/smooth_load.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, K of them chosen.

namespace switchyard {
namespace {

using at::Tensor;

double phi(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

Tensor row(std::vector<double> values) { return at::tensor(values, at::kDouble).unsqueeze(0); }

// Three experts, k = 1, H = (3, 1, 2). Expert 0 is in: its threshold is the second
// value, 2. The others are out: theirs is the first, 3.
TEST(SmoothLoadTest, C1_ThresholdsLeaveTheExpertItselfOut) {
  const Tensor load_TE =
      load_against_others(row({2.5, 1.0, 1.5}), row({3.0, 1.0, 2.0}), row({0.5, 1.0, 2.0}), 1);
  EXPECT_TRUE(near(load_TE, row({phi((2.5 - 2) / 0.5), phi(1.0 - 3), phi((1.5 - 3) / 2)}), 1e-12));
}

TEST(SmoothLoadTest, R1_TheThresholdIsTheKthNoisyLogitForAll) {
  const Tensor clean_TE = row({2.5, 1.0, 1.5, 0.0}), noisy_TE = row({3.0, 1.0, 2.0, -1.0});
  const Tensor load_TE =
      load_against_kth(clean_TE, noisy_TE, at::scalar_tensor(0.5, at::kDouble), 2);
  EXPECT_TRUE(near(load_TE, row({phi(1), phi(-2), phi(-1), phi(-4)}), 1e-12));
}

// The load is a probability: with fresh noise on one expert's logit alone, it is
// chosen that often.
TEST(SmoothLoadTest, C1_IsHowOftenAnExpertWinsWithItsNoiseDrawnAnew) {
  constexpr int64_t kTimes = 40000;
  const Tensor clean_TE = row({0.3, -0.2, 0.5, 0.0}), noisy_TE = row({0.9, -0.5, 0.2, 0.1});
  const Tensor sigma_TE = row({0.7, 1.1, 0.4, 0.9});
  const Tensor load_TE = load_against_others(clean_TE, noisy_TE, sigma_TE, 2);
  for (int64_t e = 0; e < 4; ++e) {
    Tensor again_TE = noisy_TE.repeat({kTimes, 1});
    again_TE.select(1, e).copy_(clean_TE[0][e] +
                                sigma_TE[0][e] * normal_tensor({kTimes}, std::to_string(e)));
    const Tensor best = std::get<1>(again_TE.topk(2, 1));
    const double rate = (best == e).any(1).to(at::kDouble).mean().item<double>();
    const double load = load_TE[0][e].item<double>();
    EXPECT_NEAR(rate, load, 4 * std::sqrt(load * (1 - load) / kTimes)) << e;
  }
}

TEST(SmoothLoadTest, C1_TendsToTheCountAsTheNoiseVanishes) {
  const Tensor clean_TE = normal_tensor({200, 8}, "logits");
  for (const int64_t K : {1, 3, 7}) {
    const Tensor count_TE = hard_load(std::get<1>(clean_TE.topk(K, 1)), clean_TE);
    const auto load = [&](double sigma) {
      const Tensor noisy_TE = clean_TE + sigma * normal_tensor({200, 8}, "noise");
      return load_against_others(clean_TE, noisy_TE, at::scalar_tensor(sigma, at::kDouble), K);
    };
    EXPECT_TRUE(near(load(1e-7).sum(0), count_TE.sum(0), 1e-3));
    EXPECT_FALSE(near(load(1.0).sum(0), count_TE.sum(0), 1e-2));
  }
}

TEST(SmoothLoadTest, C1_TheGradientIsThatOfTheEquation) {
  const Tensor noise_TE = normal_tensor({6, 5}, "noise");
  for (const int64_t K : {1, 2, 4}) {
    const TensorFunction f = [&](const auto& in) {
      const Tensor sigma_TE = at::softplus(in[1]) + 0.01;
      return load_against_others(in[0], in[0] + noise_TE * sigma_TE, sigma_TE, K);
    };
    EXPECT_TRUE(gradients_match(f, {normal_tensor({6, 5}, "z"), normal_tensor({6, 5}, "r")}, 1e-7));
  }
}

TEST(SmoothLoadTest, R1_TheGradientIsThatOfTheEquation) {
  const Tensor noise_TE = 0.2 * normal_tensor({6, 5}, "noise");
  for (const int64_t K : {1, 2, 5}) {
    const TensorFunction f = [&](const auto& in) {
      return load_against_kth(in[0], in[0] + noise_TE, at::scalar_tensor(0.2, at::kDouble), K);
    };
    EXPECT_TRUE(gradients_match(f, {normal_tensor({6, 5}, "z")}, 1e-7));
  }
}

// Equal noisy logits: the lower id is in, as in the choice.
TEST(SmoothLoadTest, C1_TiesAreSettledAsTheChoiceDoes) {
  const Tensor load_TE = load_against_others(row({1.0, 1.0, 0.0}), row({1.0, 1.0, 0.0}),
                                             at::scalar_tensor(1.0, at::kDouble), 1);
  EXPECT_TRUE(near(load_TE, row({phi(0), phi(0), phi(-1)}), 1e-12));
}

TEST(SmoothLoadTest, HardLoadCountsTheChosen) {
  const Tensor experts_TK = at::tensor({2, 0, 1, 2}, at::kLong).view({2, 2});
  const Tensor like_TE = at::ones({2, 4}, at::kDouble).set_requires_grad(true);
  const Tensor load_TE = hard_load(experts_TK, like_TE);
  EXPECT_TRUE(same(load_TE, at::tensor({1, 0, 1, 0, 0, 1, 1, 0}, at::kDouble).view({2, 4})));
  EXPECT_FALSE(load_TE.requires_grad());
}

TEST(SmoothLoadTest, AllExpertsHaveNoThreshold) {
  const Tensor z_TE = at::zeros({1, 3}, at::kDouble);
  EXPECT_THROW(load_against_others(z_TE, z_TE, at::scalar_tensor(1.0, at::kDouble), 3), c10::Error);
}

}  // namespace
}  // namespace switchyard
