#include "support/host_device.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "support/tensors.h"

namespace switchyard {
namespace {

using at::Tensor;

const at::TensorOptions kOnDevice = at::TensorOptions().device(host_device());

TEST(HostDevice, FactoriesMakeTensorsOnIt) {
  EXPECT_EQ(at::empty({2, 3}, kOnDevice).device(), host_device());
  EXPECT_TRUE(same(at::arange(5, kOnDevice.dtype(at::kLong)).cpu(), at::arange(5, at::kLong)));
  EXPECT_TRUE(same(at::full({2, 2}, 3.5, kOnDevice).cpu(), at::full({2, 2}, 3.5)));
  EXPECT_TRUE(same(at::tensor({1.0, 2.0}, kOnDevice.dtype(at::kDouble)).cpu(),
                   at::tensor({1.0, 2.0}, at::kDouble)));
  EXPECT_EQ(at::empty({0, 4}, kOnDevice).cpu().sizes(), (std::vector<int64_t>{0, 4}));
}

TEST(HostDevice, NewMemoryIsNotZero) {
  EXPECT_TRUE(at::empty({16}, kOnDevice.dtype(at::kFloat)).isnan().all().item<bool>());
}

TEST(HostDevice, CopiesBothWaysAndCounts) {
  const Tensor x = normal_tensor({4, 6}, "x", at::kFloat);
  const HostDeviceTraffic before = host_device_traffic();
  const Tensor on_device = x.to(host_device());
  EXPECT_EQ(host_device_traffic().to_device, before.to_device + 1);
  EXPECT_EQ(host_device_traffic().to_host, before.to_host);
  EXPECT_TRUE(same(on_device.cpu(), x));
  EXPECT_EQ(on_device.flatten()[5].item<float>(), x.flatten()[5].item<float>());
  EXPECT_TRUE(same(on_device.to(at::kBFloat16).cpu(), x.to(at::kBFloat16)));
  EXPECT_EQ(host_device_traffic().to_host, before.to_host + 3);
}

TEST(HostDevice, ViewsShareMemory) {
  Tensor x = at::zeros({4, 6}, kOnDevice);
  x.narrow(0, 1, 2).t().select(0, 3).fill_(7);
  x.view({24})[0].add_(1);
  Tensor expected = at::zeros({4, 6});
  expected.narrow(0, 1, 2).select(1, 3).fill_(7);
  expected[0][0] = 1;
  EXPECT_TRUE(same(x.cpu(), expected));
}

TEST(HostDevice, HasEveryOperator) {
  const Tensor x = normal_tensor({5, 8}, "x", at::kFloat),
               w = normal_tensor({8, 8}, "w", at::kFloat);
  const auto f = [](const Tensor& a, const Tensor& b) {
    const auto [sorted, order] = at::sort(at::matmul(a, b), /*stable=*/true, 1, true);
    const Tensor ids = order.narrow(1, 0, 2);
    Tensor sum = at::zeros_like(a).scatter_add_(1, ids, sorted.narrow(1, 0, 2));
    sum.index_add_(0, ids.select(1, 0).remainder(5), a);
    return at::cat({sum.softmax(1).cumsum(0), at::where(a > 0, a, 0.0)}, 1);
  };
  EXPECT_TRUE(near(f(x.to(host_device()), w.to(host_device())).cpu(), f(x, w), 1e-6));
}

TEST(HostDevice, HasAutograd) {
  const auto gradients = [](c10::Device device) {
    const Tensor x = normal_tensor({5, 8}, "x", at::kDouble).to(device).set_requires_grad(true),
                 w = normal_tensor({8, 8}, "w", at::kDouble).to(device).set_requires_grad(true);
    const Tensor q = at::matmul(x, w).view({1, 1, 5, 8});
    const Tensor y = at::scaled_dot_product_attention(q, q, q, {}, 0.0, /*is_causal=*/true);
    torch::autograd::backward({y.square().sum()}, {});
    return std::pair(x.grad().cpu(), w.grad().cpu());
  };
  const auto [x, w] = gradients(host_device());
  const auto [expected_x, expected_w] = gradients(at::kCPU);
  EXPECT_TRUE(near(x, expected_x, 1e-9));
  EXPECT_TRUE(near(w, expected_w, 1e-9));
}

TEST(HostDevice, TakesNoHostTensorsOfShape) {
  const Tensor x = at::ones({4}, kOnDevice);
  EXPECT_THROW(x + at::ones({4}), c10::Error);
  EXPECT_THROW(x.index_select(0, at::zeros({2}, at::kLong)), c10::Error);
  EXPECT_EQ((x + at::scalar_tensor(2.0)).sum().item<double>(), 12);
}

TEST(HostDeviceDeath, HostCodeCannotReadIt) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const Tensor x = at::ones({4}, kOnDevice);
  EXPECT_DEATH(
      {
        volatile float value = x.data_ptr<float>()[0];
        (void)value;
      },
      "");
}

}  // namespace
}  // namespace switchyard
