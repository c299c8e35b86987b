#include "ops/swiglu_experts.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "support/tensors.h"

namespace switchyard {
namespace {

using at::Tensor;

/// Expert by expert in float64: down(silu(gate x) * up x).
Tensor plain(const Tensor& x_RD, const Tensor& in_E2FD, const Tensor& down_EDF,
             const std::vector<int64_t>& rows_E) {
  std::vector<Tensor> outputs = {at::empty({0, x_RD.size(1)}, x_RD.options())};
  int64_t begin = 0;
  for (size_t e = 0; e < rows_E.size(); ++e) {
    const auto i = static_cast<int64_t>(e);
    const auto halves = at::linear(x_RD.narrow(0, begin, rows_E[e]), in_E2FD[i]).chunk(2, 1);
    outputs.push_back(at::linear(at::silu(halves[0]) * halves[1], down_EDF[i]));
    begin += rows_E[e];
  }
  return at::cat(outputs);
}

struct Case {
  std::vector<int64_t> rows_E;
  int64_t width, inner;
};

/// No rows, some empty, more than a block, more than a task's; widths beside the blocks'.
const std::vector<Case> kCases = {{{0, 0}, 4, 2},
                                  {{2, 0, 5, 1, 0}, 16, 6},
                                  {{64, 65, 1}, 32, 64},
                                  {{1100, 3}, 8, 66},
                                  {{300, 0, 40}, 130, 70}};

void expect_equal(const Case& c, at::ScalarType dtype, double tolerance) {
  int64_t R = 0;
  for (const int64_t rows : c.rows_E) R += rows;
  const auto E = static_cast<int64_t>(c.rows_E.size());
  std::vector<Tensor> fast = {normal_tensor({R, c.width}, "x", dtype),
                              normal_tensor({E, 2 * c.inner, c.width}, "in", dtype) / 8,
                              normal_tensor({E, c.width, c.inner}, "down", dtype) / 8};
  std::vector<Tensor> exact;
  for (Tensor& x : fast) {
    x = x.detach();
    exact.push_back(x.to(at::kDouble).set_requires_grad(true));
    x.set_requires_grad(true);
  }
  ASSERT_TRUE(fits_swiglu_experts(fast[0], fast[1], fast[2]));
  const Tensor y = swiglu_experts(fast[0], fast[1], fast[2], c.rows_E);
  const Tensor expected = plain(exact[0], exact[1], exact[2], c.rows_E);
  EXPECT_TRUE(near(y, expected.to(dtype), tolerance));
  const Tensor dy = normal_tensor({R, c.width}, "dy", dtype);
  y.backward(dy);
  expected.backward(dy.to(at::kDouble));
  for (size_t i = 0; i < fast.size(); ++i) {
    const double size = i == 0 ? 1 : std::sqrt(static_cast<double>(std::max<int64_t>(1, R)));
    EXPECT_TRUE(near(fast[i].grad() / size, (exact[i].grad() / size).to(dtype), 2 * tolerance))
        << "input " << i;
  }
}

TEST(SwiGluExpertsTest, EqualsEachExpertAlone) {
  for (const Case& c : kCases) expect_equal(c, at::kFloat, 2e-5);
}

TEST(SwiGluExpertsTest, Bfloat16IsRoundedWhereItIsStored) {
  for (const Case& c : kCases) expect_equal(c, at::kBFloat16, 0x1.0p-6);
}

TEST(SwiGluExpertsTest, GradientsOfWeightsAreAddedInPlace) {
  const std::vector<int64_t> rows_E = {3, 0, 70};
  const Tensor x = normal_tensor({73, 8}, "x", at::kBFloat16);
  Tensor in = normal_tensor({3, 12, 8}, "in", at::kBFloat16).set_requires_grad(true);
  Tensor down = normal_tensor({3, 8, 6}, "down", at::kBFloat16).set_requires_grad(true);
  in.mutable_grad() = at::zeros(in.sizes(), at::kFloat);
  down.mutable_grad() = at::zeros(down.sizes(), at::kFloat);
  swiglu_experts(x, in, down, rows_E).sum().backward();
  const Tensor once = in.grad().clone();
  swiglu_experts(x, in, down, rows_E).sum().backward();
  EXPECT_TRUE(near(in.grad(), once * 2, 1e-6));
  EXPECT_EQ(in.grad().scalar_type(), at::kFloat);
  EXPECT_TRUE(same(in.grad()[1], at::zeros({12, 8}, at::kFloat)));
  EXPECT_GT(down.grad()[2].abs().min().item<float>(), 0);
}

TEST(SwiGluExpertsTest, ThreadsChangeNothing) {
  const int threads = at::get_num_threads();
  const std::vector<int64_t> rows_E = {300, 2, 1100};
  std::vector<Tensor> results;
  for (const int count : {1, 3}) {
    at::set_num_threads(count);
    Tensor x = normal_tensor({1402, 16}, "x", at::kFloat).set_requires_grad(true);
    Tensor in = normal_tensor({3, 264, 16}, "in", at::kFloat).set_requires_grad(true);
    Tensor down = normal_tensor({3, 16, 132}, "down", at::kFloat).set_requires_grad(true);
    const Tensor y = swiglu_experts(x, in, down, rows_E);
    y.sum().backward();
    for (const Tensor& result : {y.detach(), x.grad(), in.grad(), down.grad()})
      results.push_back(result);
  }
  at::set_num_threads(threads);
  for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(same(results[i], results[i + 4])) << i;
}

TEST(SwiGluExpertsTest, AnotherLayoutDtypeOrOddWidthIsComposedByTheCaller) {
  const Tensor x = at::zeros({2, 4}), in = at::zeros({1, 6, 4}), down = at::zeros({1, 4, 3});
  EXPECT_TRUE(fits_swiglu_experts(x, in, down));
  EXPECT_FALSE(fits_swiglu_experts(x.to(at::kDouble), in.to(at::kDouble), down.to(at::kDouble)));
  EXPECT_FALSE(fits_swiglu_experts(x.to(at::kBFloat16), in.to(at::kBFloat16),
                                   down.to(at::kBFloat16)));  // an odd inner width
  EXPECT_FALSE(fits_swiglu_experts(x, in.transpose(1, 2), down));
}

}  // namespace
}  // namespace switchyard
