#include <ATen/ATen.h>
#include <c10/cuda/CUDAFunctions.h>

#include "gpu/support.h"
#include "ops/composed.h"
#include "ops/cuda/kernels.h"
#include "ops/device_products.h"
#include "ops/gemm_peak.h"
#include "ops/host_copy.h"
#include "ops/uniform_rows.h"
#include "support/evaluate.h"
#include "support/loss_cases.h"

// Ops, losses and kernels on a GPU, against the host's float64.

namespace switchyard {
namespace {

using at::Tensor;

using OpsGpuTest = GpuTest;

std::vector<OpCase> all_cases() {
  std::vector<OpCase> cases = op_cases();
  for (OpCase& c : loss_cases()) cases.push_back(std::move(c));
  return cases;
}

/// While it lives a call that makes the host wait for the GPU throws.
class NoWaiting {
 public:
  NoWaiting() { c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_ERROR); }
  ~NoWaiting() {
    c10::cuda::warning_state().set_sync_debug_mode(c10::cuda::SyncDebugMode::L_DISABLED);
  }
  NoWaiting(const NoWaiting&) = delete;
  NoWaiting& operator=(const NoWaiting&) = delete;
};

TEST_F(OpsGpuTest, GiveWhatTheHostGives) {
  for (const OpCase& c : all_cases()) {
    const auto exact = evaluate(c.f, c.inputs, at::kCPU, at::kDouble);
    EXPECT_TRUE(all_near(evaluate(c.f, c.inputs, at::kCUDA, at::kFloat), exact, 1e-4)) << c.name;
    EXPECT_TRUE(all_near(evaluate(c.f, c.inputs, at::kCUDA, at::kBFloat16), exact, 2e-2)) << c.name;
  }
}

TEST_F(OpsGpuTest, RepeatThemselvesToTheBit) {
  for (const OpCase& c : all_cases()) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      EXPECT_TRUE(all_same(evaluate(c.f, c.inputs, at::kCUDA, dtype),
                           evaluate(c.f, c.inputs, at::kCUDA, dtype)))
          << c.name;
    }
  }
}

TEST_F(OpsGpuTest, TheHostWaitsForNothing) {
  for (const OpCase& c : all_cases()) {
    std::vector<Tensor> inputs;
    for (const Tensor& x : c.inputs) {
      const Tensor there =
          copy_to_device(x.is_floating_point() ? x.to(at::kBFloat16) : x, at::Device(at::kCUDA, 0));
      inputs.push_back(there.is_floating_point() ? there.set_requires_grad(true) : there);
    }
    const NoWaiting no_waiting;
    EXPECT_NO_THROW(c.f(inputs).sum().backward()) << c.name;
  }
}

TEST_F(OpsGpuTest, KernelsAreWhatTheyAreComposedOf) {
  constexpr int64_t T = 700, K = 4, E = 9, D = 1024;
  const Tensor experts = at::arange(T * K, at::kCUDA).mul(11).remainder(E - 1).view({T, K}),
               kept = (at::arange(T * K, at::kCUDA).remainder(7) != 2).view({T, K});
  const SortedPairs sorted = cuda::sort_by_expert(experts, kept, E),
                    expected = composed::sort_by_expert(experts, kept, E);
  EXPECT_TRUE(same(sorted.order, expected.order));
  EXPECT_TRUE(same(sorted.slot_TK, expected.slot_TK));
  EXPECT_TRUE(same(sorted.rows_E, expected.rows_E));
  const RowMap map = sorted.map(sorted.rows_E.sum().item<int64_t>());
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const double tolerance = dtype == at::kFloat ? 1e-5 : 0x1.0p-7;
    const auto draw = [&](std::vector<int64_t> shape, const char* name) {
      return normal_tensor(std::move(shape), name, dtype).to(at::kCUDA);
    };
    const Tensor x = draw({T, D}, "x"), y = draw({map.pair_S.size(0), D}, "y"),
                 weights = normal_tensor({T, K}, "weights", at::kFloat).to(at::kCUDA);
    EXPECT_TRUE(same(cuda::copy_rows(x, map.pair_S, K), composed::copy_rows(x, map.pair_S, K)));
    EXPECT_TRUE(near(cuda::sum_slots(y, map.slot_TK, weights),
                     composed::sum_slots(y, map.slot_TK, weights), tolerance));
    const CombineGradients combined = cuda::combine_gradients(y, weights, map, x),
                           by_ops = composed::combine_gradients(y, weights, map, x);
    EXPECT_TRUE(near(combined.dy_SD, by_ops.dy_SD, tolerance));
    EXPECT_TRUE(near(combined.dweights_TK, by_ops.dweights_TK, 1e-3));
    const Tensor weight = draw({D}, "weight"), dy = draw({T, D}, "dy");
    const NormRows rows = cuda::rms_norm(x, weight, 1e-5);
    EXPECT_TRUE(near(rows.y_RD, composed::rms_norm(x, weight, 1e-5).y_RD, tolerance));
    const NormGradients norm = cuda::rms_norm_gradients(x, weight, rows.rstd_R, dy),
                        norm_by_ops = composed::rms_norm_gradients(x, weight, rows.rstd_R, dy);
    EXPECT_TRUE(near(norm.dx_RD, norm_by_ops.dx_RD, tolerance));
    EXPECT_TRUE(near(norm.dweight, norm_by_ops.dweight, 4 * tolerance));
    EXPECT_TRUE(near(cuda::swiglu(x), composed::swiglu(x), tolerance));
    const Tensor half = dy.narrow(1, 0, D / 2).contiguous();
    EXPECT_TRUE(
        near(cuda::swiglu_gradient(x, half), composed::swiglu_gradient(x, half), tolerance));
  }
}

TEST_F(OpsGpuTest, BothProductsOfGroups) {
  if (!cuda::has_grouped_mm()) return;  // one alone
  const std::vector<int64_t> rows_E = {3, 0, 200, 1};
  const Tensor x = normal_tensor({204, 64}, "x", at::kBFloat16).to(at::kCUDA),
               w = normal_tensor({4, 48, 64}, "w", at::kBFloat16).to(at::kCUDA);
  EXPECT_EQ(products_for(x, w), Products::kGrouped);
  EXPECT_TRUE(near(rows_times_groups(x, w.transpose(1, 2), rows_E, Products::kGrouped),
                   rows_times_groups(x, w.transpose(1, 2), rows_E, Products::kLooped), 2e-2));
}

TEST_F(OpsGpuTest, WeightGradientsAreNotRoundedToBfloat16) {
  const Tensor a = normal_tensor({512, 16}, "a", at::kBFloat16),
               b = normal_tensor({512, 24}, "b", at::kBFloat16);
  const Tensor sum = at::ones({1, 16, 24}, at::device(at::kCUDA).dtype(at::kFloat));
  add_group_products(a.to(at::kCUDA), b.to(at::kCUDA), {512}, sum);
  const Tensor exact = at::mm(a.to(at::kDouble).t(), b.to(at::kDouble)) + 1;
  EXPECT_TRUE(near(sum[0].cpu().to(at::kDouble), exact, 1e-4));
}

TEST_F(OpsGpuTest, AdamW) {
  const AdamWFactors factors{0.5F, 0.99F, 0.9F, 0.1F, 0.95F, 0.05F, 1e-2F, 1.3F, 1e-8F};
  const auto updated = [&](c10::Device device) {
    const auto start = [&](const char* name) {
      return normal_tensor({10003}, name, at::kFloat).to(device);
    };
    AdamWTensors t{start("w"), start("g"), start("m"), start("v").square(), {}};
    t.rounded = at::zeros({10003}, t.weight.options().dtype(at::kBFloat16));
    adamw_update(t, factors);
    EXPECT_TRUE(same(t.rounded, t.weight.to(at::kBFloat16)));
    return std::vector<Tensor>{t.weight.cpu(), t.exp_avg.cpu(), t.exp_avg_sq.cpu()};
  };
  EXPECT_TRUE(all_near(updated(at::kCUDA), updated(at::kCPU), 1e-6));
}

TEST_F(OpsGpuTest, DrawsTheBitsOfTheHost) {
  const RandomStream stream(11, "uniform");
  const Tensor ids = at::arange(1000) * 77;
  EXPECT_TRUE(
      same(uniform_rows(stream, ids.to(at::kCUDA), 33).cpu(), uniform_rows(stream, ids, 33)));
}

TEST_F(OpsGpuTest, AHostCopyWaitsForWhatIsBeforeItAlone) {
  const Tensor x = at::arange(1000, at::kCUDA);
  HostCopy copy(x * 2);
  EXPECT_TRUE(same(copy.wait(), at::arange(1000) * 2));
}

TEST_F(OpsGpuTest, ThePeakIsMeasured) {
  EXPECT_GT(measure_gemm_peak(at::kBFloat16, at::Device(at::kCUDA, 0)), 1e12);
}

}  // namespace
}  // namespace switchyard
