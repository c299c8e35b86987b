#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "ops/adamw_update.h"
#include "ops/device_products.h"
#include "ops/embedding.h"
#include "ops/gemm_peak.h"
#include "ops/host_copy.h"
#include "ops/linear.h"
#include "ops/sort_by_expert.h"
#include "ops/uniform_rows.h"
#include "support/evaluate.h"
#include "support/host_device.h"
#include "support/op_cases.h"

// Ops on a device's tensors, against the host's float64.

namespace switchyard {
namespace {

using at::Tensor;

TEST(DeviceOpsTest, GiveWhatTheHostGives) {
  for (const OpCase& c : op_cases()) {
    const auto exact = evaluate(c.f, c.inputs, at::kCPU, at::kDouble);
    EXPECT_TRUE(all_near(evaluate(c.f, c.inputs, host_device(), at::kDouble), exact, 1e-6))
        << c.name;
    EXPECT_TRUE(all_near(evaluate(c.f, c.inputs, host_device(), at::kFloat), exact, 1e-4))
        << c.name;
    EXPECT_TRUE(all_near(evaluate(c.f, c.inputs, host_device(), at::kBFloat16), exact, 2e-2))
        << c.name;
  }
}

TEST(DeviceOpsTest, TheHostWaitsForNothing) {
  for (const OpCase& c : op_cases()) {
    const int64_t before = host_device_traffic().to_host;
    const size_t results = evaluate(c.f, c.inputs, host_device(), at::kFloat).size();
    EXPECT_EQ(host_device_traffic().to_host - before, static_cast<int64_t>(results)) << c.name;
  }
}

/// What is added to a float32 gradient of a bfloat16 weight that is there already.
Tensor added_by(const TensorFunction& f, const Tensor& weight, const Tensor& x) {
  Tensor w = weight.to(at::kBFloat16).to(host_device()).set_requires_grad(true);
  const Tensor buffer = at::zeros(weight.sizes(), w.options().dtype(at::kFloat));
  w.mutable_grad() = buffer;
  const Tensor y = f({w, x.to(host_device())});
  y.backward(coarse_tensor(y.sizes().vec(), "dy").to(y.scalar_type()).to(host_device()));
  EXPECT_TRUE(w.grad().is_same(buffer));
  return buffer.cpu().to(at::kDouble);
}

TEST(DeviceOpsTest, TheGradientOfAWeightGoesStraightIntoItsBufferAndIsNotRounded) {
  const Tensor weight = coarse_tensor({9, 16}, "weight"), x = coarse_tensor({40, 16}, "x");
  const auto linear = [](const std::vector<Tensor>& in) { return linear_projection(in[1], in[0]); };
  EXPECT_TRUE(near(added_by(linear, weight, x.to(at::kBFloat16)),
                   at::mm(coarse_tensor({40, 9}, "dy").t(), x), 1e-5));
  const auto embed = [](const std::vector<Tensor>& in) { return embed_tokens(in[0], in[1]); };
  const Tensor tokens = at::arange(40).remainder(9);
  EXPECT_TRUE(near(
      added_by(embed, weight, tokens),
      at::zeros({9, 16}, at::kDouble).index_add(0, tokens, coarse_tensor({40, 16}, "dy")), 1e-5));
}

/// Products on host tensors: at::_grouped_mm has the same contract there.
TEST(DeviceProductsTest, OneKernelForAllGroupsIsTheLoop) {
  const std::vector<int64_t> rows_E = {3, 0, 8, 1};
  const Tensor x_RD = normal_tensor({12, 16}, "x", at::kBFloat16),
               w_EFD = normal_tensor({4, 24, 16}, "w", at::kBFloat16);
  for (const Tensor& w : {w_EFD.transpose(1, 2), w_EFD.view({4, 16, 24})}) {
    const Tensor grouped = rows_times_groups(x_RD, w, rows_E, Products::kGrouped);
    EXPECT_TRUE(near(grouped, rows_times_groups(x_RD, w, rows_E, Products::kLooped), 0x1.0p-6));
    EXPECT_TRUE(grouped.is_contiguous());
  }
  EXPECT_EQ(products_for(x_RD, w_EFD), Products::kLooped);
}

TEST(SortByExpertTest, OnADeviceAsOnTheHost) {
  for (const int64_t T : {0, 1, 50, 700}) {
    const Tensor experts_TK = at::arange(T * 2).mul(11).remainder(6).view({T, 2}),
                 kept_TK = (at::arange(T * 2).remainder(5) != 2).view({T, 2});
    const SortedPairs host = sort_by_expert(experts_TK, kept_TK, 7);
    const int64_t before = host_device_traffic().to_host;
    const SortedPairs device =
        sort_by_expert(experts_TK.to(host_device()), kept_TK.to(host_device()), 7);
    EXPECT_EQ(host_device_traffic().to_host, before);
    EXPECT_TRUE(same(device.order.cpu(), host.order));
    EXPECT_TRUE(same(device.slot_TK.cpu(), host.slot_TK));
    EXPECT_TRUE(same(device.rows_E.cpu(), host.rows_E));
  }
}

TEST(UniformRowsTest, TheSameBitsAsOnTheHost) {
  const RandomStream stream(11, "uniform");
  const std::vector<int64_t> ids = {0, 1, 77, (int64_t{3} << 32) + 5, int64_t{1} << 62};
  const Tensor drawn = uniform_rows(stream, at::tensor(ids).to(host_device()), 11).cpu();
  for (size_t r = 0; r < ids.size(); ++r) {
    for (int64_t i = 0; i < 11; ++i) {
      EXPECT_EQ(drawn[static_cast<int64_t>(r)][i].item<float>(),
                stream.uniform(static_cast<uint64_t>(i), static_cast<uint64_t>(ids[r])));
    }
  }
}

TEST(HostCopyTest, BringsTheValuesAndLeavesHostTensorsAlone) {
  const Tensor x = at::arange(6);
  EXPECT_TRUE(HostCopy(x).wait().is_same(x));
  EXPECT_TRUE(same(HostCopy(x.to(host_device())).wait(), x));
  EXPECT_TRUE(copy_to_device(x, at::kCPU).is_same(x));
  EXPECT_TRUE(same(copy_to_device(x, host_device()).cpu(), x));
}

TEST(AdamWUpdateTest, OnADeviceAsOnTheHost) {
  const AdamWFactors factors{0.5F, 0.99F, 0.9F, 0.1F, 0.95F, 0.05F, 1e-2F, 1.3F, 1e-8F};
  const auto updated = [&](c10::Device device, at::ScalarType dtype) {
    const auto start = [&](const char* name) {
      return normal_tensor({1003}, name, at::kFloat).to(device);
    };
    AdamWTensors t{start("w"), start("g"), start("m"), start("v").square(), {}};
    if (dtype != at::kFloat) t.rounded = at::zeros({1003}, t.weight.options().dtype(dtype));
    adamw_update(t, factors);
    std::vector<Tensor> results = {t.weight.cpu(), t.exp_avg.cpu(), t.exp_avg_sq.cpu()};
    if (t.rounded.defined()) {
      EXPECT_TRUE(same(t.rounded.cpu(), results[0].to(dtype)));
    }
    return results;
  };
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    EXPECT_TRUE(all_near(updated(host_device(), dtype), updated(at::kCPU, dtype), 1e-6));
  }
}

TEST(GemmPeakTest, OnADevice) { EXPECT_GT(measure_gemm_peak(at::kFloat, host_device()), 0); }

}  // namespace
}  // namespace switchyard
