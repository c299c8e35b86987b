#include "loss/communication_balance.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "loss/load_balancing.h"
#include "support/tensors.h"

// T tokens, G groups, E experts on N devices, K choices per token.

namespace switchyard {
namespace {

using at::Tensor;

TEST(DevicesOfTokensTest, R8_AreThoseOfTheChoicesAndEachOnce) {
  const Tensor chosen_TK = at::tensor({0, 1, 5, -1, -1, -1, 3, 2, 4}, at::kLong).view({3, 3});
  const Tensor expected_TN =
      at::tensor({1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0}, at::kDouble).view({3, 3});
  EXPECT_TRUE(same(devices_of_tokens(chosen_TK, 6, 3), expected_TN));
  EXPECT_EQ(devices_of_tokens(at::empty({0, 3}, at::kLong), 6, 3).size(1), 3);
  EXPECT_THROW(devices_of_tokens(chosen_TK, 6, 4), c10::Error);
}

double mean_loss(const Tensor& chosen_TK, const Tensor& probs_TE, int64_t devices, int64_t limit) {
  const int64_t T = probs_TE.size(0), E = probs_TE.size(1);
  const Tensor sent_1N = devices_of_tokens(chosen_TK, E, devices).sum(0, /*keepdim=*/true);
  const Tensor f_1E = communication_fractions(sent_1N, at::full({1}, T, at::kDouble), limit, E);
  return load_balancing_sum(f_1E, probs_TE).item<double>() / static_cast<double>(T);
}

// Four devices of two experts; every token goes to M = 2 of them.
TEST(CommunicationBalanceTest, R8_IsOneAtBalance) {
  const Tensor chosen_TK = at::tensor({0, 2, 4, 6, 3, 5, 7, 1}, at::kLong).view({4, 2});
  EXPECT_NEAR(mean_loss(chosen_TK, at::full({4, 8}, 1.0 / 8), 4, 2), 1, 1e-6);
}

// All on one device: f'' = N / M there, P'' = 1. With M = 1 that is N.
TEST(CommunicationBalanceTest, R8_IsNOverMOnCollapse) {
  const Tensor chosen_TK = at::tensor({0, 1, 1, 0}, at::kLong).view({2, 2});
  const Tensor probs_TE = at::tensor({1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0}).view({2, 4});
  EXPECT_NEAR(mean_loss(chosen_TK, probs_TE, 2, 1), 2, 1e-6);
  EXPECT_NEAR(mean_loss(chosen_TK, probs_TE, 2, 2), 1, 1e-6);
}

// sum_d f''_d P''_d as the paper writes it, by loops.
TEST(CommunicationBalanceTest, R8_EqualsTheSumOverDevicesOnRandomCases) {
  constexpr int64_t T = 10, E = 8, N = 4, K = 3, M = 2;
  for (int64_t i = 0; i < 100; ++i) {
    const Tensor probs_TE = normal_tensor({T, E}, "logits " + std::to_string(i)).softmax(1);
    const Tensor chosen_TK = probs_TE.argsort(1, true).narrow(1, 0, K).contiguous();
    double expected = 0;
    for (int64_t d = 0; d < N; ++d) {
      double sent = 0, p = 0;
      for (int64_t t = 0; t < T; ++t) {
        bool here = false;
        for (int64_t k = 0; k < K; ++k) here |= chosen_TK[t][k].item<int64_t>() / (E / N) == d;
        sent += here ? 1 : 0;
        for (int64_t e = 2 * d; e < 2 * d + 2; ++e) p += probs_TE[t][e].item<double>() / T;
      }
      expected += static_cast<double>(N) / (M * T) * sent * p;
    }
    ASSERT_NEAR(mean_loss(chosen_TK, probs_TE, N, M), expected, 1e-6);
  }
}

TEST(CommunicationBalanceTest, AGroupWithoutTokensHasNoFractions) {
  const Tensor f_GE =
      communication_fractions(at::zeros({2, 2}, at::kDouble), at::zeros({2}, at::kDouble), 1, 4);
  EXPECT_TRUE(same(f_GE, at::zeros({2, 4})));
}

}  // namespace
}  // namespace switchyard
