#include "ops/linear.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/tensors.h"

// Against at::linear in float64: the products are the same sums, rounded later.

namespace switchyard {
namespace {

using at::Tensor;

struct Case {
  std::vector<int64_t> x;
  int64_t out;
};

/// One row, a whole block, one more, several panels and one column of a further one.
const std::vector<Case> kCases = {{{1, 2}, 1},       {{64, 32}, 128}, {{65, 34}, 130},
                                  {{3, 5, 16}, 257}, {{1100, 8}, 6},  {{0, 4}, 3}};

TEST(LinearTest, EqualsAtLinear) {
  for (const Case& c : kCases) {
    const Tensor x = normal_tensor(c.x, "x"), w = normal_tensor({c.out, c.x.back()}, "w"),
                 b = normal_tensor({c.out}, "b");
    EXPECT_TRUE(near(linear_projection(x.to(at::kFloat), w.to(at::kFloat), b.to(at::kFloat)),
                     at::linear(x, w, b).to(at::kFloat), 1e-5));
    const Tensor xh = x.to(at::kBFloat16), wh = w.to(at::kBFloat16);
    EXPECT_TRUE(near(linear_projection(xh, wh),
                     at::linear(xh.to(at::kDouble), wh.to(at::kDouble)).to(at::kBFloat16),
                     0x1.0p-7));
    EXPECT_TRUE(same(linear_projection(x, w, b), at::linear(x, w, b)));  // float64: composed
  }
}

TEST(LinearTest, GradientsEqualAtLinears) {
  for (const Case& c : kCases) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const double tolerance = dtype == at::kFloat ? 1e-5 : 0x1.0p-6;
      Tensor x = normal_tensor(c.x, "x", dtype).set_requires_grad(true);
      Tensor w = normal_tensor({c.out, c.x.back()}, "w", dtype).set_requires_grad(true);
      Tensor xd = x.detach().to(at::kDouble).set_requires_grad(true);
      Tensor wd = w.detach().to(at::kDouble).set_requires_grad(true);
      const Tensor y = linear_projection(x, w);
      const Tensor dy = normal_tensor(y.sizes().vec(), "dy", dtype);
      y.backward(dy);
      at::linear(xd, wd).backward(dy.to(at::kDouble));
      EXPECT_TRUE(near(x.grad(), xd.grad().to(dtype), tolerance));
      const double size = std::sqrt(static_cast<double>(std::max<int64_t>(1, x.numel())));
      EXPECT_TRUE(near(w.grad() / size, (wd.grad() / size).to(dtype), tolerance));
    }
  }
}

TEST(LinearTest, AFloat32GradientInPlaceIsAddedToWithoutRoundingIt) {
  const Tensor x = normal_tensor({300, 16}, "x", at::kBFloat16);
  Tensor w = normal_tensor({6, 16}, "w", at::kBFloat16).set_requires_grad(true);
  const Tensor home = at::ones({6, 16}, at::kFloat);
  w.mutable_grad() = home;
  const Tensor dy = normal_tensor({300, 6}, "dy", at::kBFloat16);
  linear_projection(x, w).backward(dy);
  EXPECT_EQ(w.grad().data_ptr(), home.data_ptr());
  const Tensor expected = at::mm(dy.to(at::kDouble).t(), x.to(at::kDouble)) + 1;
  EXPECT_TRUE(near(home, expected.to(at::kFloat), 1e-5));
}

TEST(LinearTest, ARowDoesNotDependOnTheOthers) {
  const Tensor w = normal_tensor({70, 48}, "w", at::kFloat);
  const Tensor x = normal_tensor({200, 48}, "x", at::kFloat);
  const Tensor all = linear_projection(x, w);
  for (const int64_t count : {1, 17, 63, 64, 100}) {
    EXPECT_TRUE(same(linear_projection(x.narrow(0, 3, count), w), all.narrow(0, 3, count)));
  }
}

TEST(LinearTest, AFrozenWeightGetsNoGradient) {
  Tensor x = normal_tensor({4, 8}, "x", at::kFloat).set_requires_grad(true);
  const Tensor w = normal_tensor({2, 8}, "w", at::kFloat);
  linear_projection(x, w).sum().backward();
  EXPECT_TRUE(x.grad().defined());
  EXPECT_FALSE(w.grad().defined());
}

}  // namespace
}  // namespace switchyard
