#include "loss/router_z.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "support/tensors.h"

namespace switchyard {
namespace {

using at::Tensor;

double z_mean(const Tensor& logits_TE) {
  return router_z_sum(logits_TE, {}).item<double>() / static_cast<double>(logits_TE.size(0));
}

TEST(RouterZTest, C5_IsTheSquareOfLnEForZeroLogits) {
  EXPECT_NEAR(z_mean(at::zeros({32, 8})), 4.3241, 5e-5);
  EXPECT_NEAR(z_mean(at::zeros({32, 64})), std::pow(std::log(64.0), 2), 1e-4);
}

TEST(RouterZTest, IsTheSquareOfTheLogSumExp) {
  // exp: 1 + 2 + 5 = 8 and 1 + 1 + 2 = 4.
  const Tensor logits_TE =
      at::tensor({1.0, 2.0, 5.0, 1.0, 1.0, 2.0}, at::kDouble).log().view({2, 3});
  const double expected = std::pow(std::log(8.0), 2) + std::pow(std::log(4.0), 2);
  EXPECT_NEAR(router_z_sum(logits_TE, {}).item<double>(), expected, 1e-12);
}

TEST(RouterZTest, C5_TheGradientIsTwiceTheLogSumExpTimesSoftmax) {
  const Tensor logits_TE = normal_tensor({6, 8}, "logits");
  const TensorFunction mean = [](const auto& in) {
    return router_z_sum(in[0], {}) / static_cast<double>(in[0].size(0));
  };
  const Tensor lse_T1 = logits_TE.logsumexp(1, /*keepdim=*/true);
  const Tensor expected = 2.0 / 6.0 * lse_T1 * logits_TE.softmax(1);
  EXPECT_TRUE(near(gradients_of(mean, {logits_TE}, at::ones({}, at::kDouble))[0], expected, 1e-12));
  EXPECT_TRUE(gradients_match(mean, {logits_TE}));
}

TEST(RouterZTest, C5_SeesAShiftThatSoftmaxDoesNot) {
  const Tensor logits_TE = normal_tensor({6, 8}, "logits");
  EXPECT_GT(z_mean(logits_TE + 3.0), z_mean(logits_TE) + 1.0);
  const double down = -std::log(8.0);  // makes every sum of exp 1
  EXPECT_NEAR(z_mean(at::zeros({6, 8}) + down), 0.0, 1e-10);
}

TEST(RouterZTest, C5_LeavesOutPaddingAndItsGradient) {
  const Tensor logits_TE = normal_tensor({4, 8}, "logits");
  const Tensor valid_T = at::tensor({1, 0, 1, 0}, at::kLong).to(at::kBool);
  const Tensor kept = at::tensor({0, 2}, at::kLong);
  const Tensor expected = router_z_sum(logits_TE.index_select(0, kept), {});
  EXPECT_TRUE(near(router_z_sum(logits_TE, valid_T), expected, 1e-12));
  const TensorFunction loss = [&](const auto& in) { return router_z_sum(in[0], valid_T); };
  const Tensor gradient = gradients_of(loss, {logits_TE}, at::ones({}, at::kDouble))[0];
  EXPECT_TRUE(same(gradient[1], at::zeros({8}, at::kDouble)));
  EXPECT_GT(gradient[0].abs().sum().item<double>(), 0);
}

TEST(RouterZTest, SplitMicroBatchesAddUpToTheWhole) {
  const Tensor logits_TE = normal_tensor({10, 8}, "logits");
  const Tensor parts =
      router_z_sum(logits_TE.narrow(0, 0, 3), {}) + router_z_sum(logits_TE.narrow(0, 3, 7), {});
  EXPECT_TRUE(near(parts, router_z_sum(logits_TE, {}), 1e-12));
}

TEST(RouterZTest, NoTokensGiveZero) {
  EXPECT_TRUE(same(router_z_sum(at::empty({0, 8}), {}), at::zeros({})));
}

}  // namespace
}  // namespace switchyard
