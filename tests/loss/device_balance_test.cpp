#include "loss/device_balance.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "loss/load_balancing.h"
#include "support/tensors.h"

// T tokens, G groups, E experts on N devices, K experts per token.

namespace switchyard {
namespace {

using at::Tensor;

/// sum_d f'_d P'_d as the paper writes it, from counts of one group of T tokens.
double by_hand(const Tensor& counts_E, const Tensor& probs_TE, int64_t devices, double K) {
  const double T = static_cast<double>(probs_TE.size(0)), E = static_cast<double>(counts_E.size(0));
  const Tensor f_ND = (counts_E * E / (K * T)).view({devices, -1});
  const Tensor p_ND = probs_TE.mean(0).view({devices, -1});
  return (f_ND.mean(1) * p_ND.sum(1)).sum().item<double>();
}

double mean_loss(const Tensor& f_1E, const Tensor& probs_TE) {
  return load_balancing_sum(device_fractions(f_1E, 2), probs_TE).item<double>() /
         static_cast<double>(probs_TE.size(0));
}

TEST(DeviceBalanceTest, R8_IsOneAtBalance) {
  EXPECT_NEAR(mean_loss(at::full({1, 8}, 1.0 / 8), at::full({16, 8}, 1.0 / 8)), 1, 1e-6);
}

// Experts 0 to 3 are device 0. One expert has all: the devices' losses do not ask which.
TEST(DeviceBalanceTest, R8_IsTheNumberOfDevicesWhenOneHasAll) {
  const Tensor probs_TE = at::zeros({16, 8});
  probs_TE.select(1, 2).fill_(1);
  const Tensor f_1E = at::zeros({1, 8});
  f_1E[0][1] = 1;
  EXPECT_NEAR(mean_loss(f_1E, probs_TE), 2, 1e-6);
  f_1E.zero_();
  f_1E[0][7] = 1;  // the choices are all on the other device
  EXPECT_NEAR(mean_loss(f_1E, probs_TE), 0, 1e-6);
}

TEST(DeviceBalanceTest, R8_ImbalanceInsideADeviceIsNotSeen) {
  const Tensor probs_TE = at::full({16, 8}, 1.0 / 8);
  const Tensor f_1E = at::zeros({1, 8});
  f_1E[0][0] = f_1E[0][7] = 0.5;
  EXPECT_NEAR(mean_loss(f_1E, probs_TE), 1, 1e-6);
}

TEST(DeviceBalanceTest, R8_EqualsTheSumOverDevicesOnRandomCases) {
  for (int64_t i = 0; i < 100; ++i) {
    const Tensor probs_TE = normal_tensor({12, 6}, "logits " + std::to_string(i)).softmax(1);
    const Tensor counts_E =
        at::bincount(probs_TE.argsort(1, true).narrow(1, 0, 3).flatten(), {}, 6).to(at::kDouble);
    const RoutingCounts counts{counts_E.unsqueeze(0), counts_E.unsqueeze(0),
                               at::full({1}, 12.0, at::kDouble)};
    for (const int64_t devices : {1, 2, 3, 6}) {
      const Tensor f_1E = device_fractions(load_fractions(counts, BalanceType::kTopK, 3), devices);
      ASSERT_NEAR(load_balancing_sum(f_1E, probs_TE).item<double>() / 12,
                  by_hand(counts_E, probs_TE, devices, 3), 1e-6);
    }
  }
}

// With a device per expert it is the expert-level loss, 1 at balance.
TEST(DeviceBalanceTest, L7_ADevicePerExpertIsTheExpertLevelLoss) {
  const Tensor f_GE = normal_tensor({3, 6}, "fractions", at::kFloat).softmax(1);
  EXPECT_TRUE(same(device_fractions(f_GE, 6), f_GE));
  EXPECT_TRUE(near(device_fractions(f_GE, 1), at::full({3, 6}, 1.0F / 6), 1e-6));
  EXPECT_THROW(device_fractions(f_GE, 4), c10::Error);
}

}  // namespace
}  // namespace switchyard
