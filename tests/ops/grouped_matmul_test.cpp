#include "ops/grouped_matmul.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/tensors.h"

namespace switchyard {
namespace {

using at::Tensor;

/// y[r] = w[e(r)] @ x[r], one row after the other.
Tensor plain_loop(const Tensor& x_RD, const Tensor& w_EFD, const std::vector<int64_t>& rows_E) {
  std::vector<Tensor> rows;
  for (size_t e = 0; e < rows_E.size(); ++e) {
    for (int64_t i = 0; i < rows_E[e]; ++i) {
      rows.push_back(
          at::mv(w_EFD[static_cast<int64_t>(e)], x_RD[static_cast<int64_t>(rows.size())]));
    }
  }
  return at::stack(rows);
}

const std::vector<int64_t> kRows = {2, 0, 5, 1, 0};

TEST(GroupedMatmulTest, OneRowByHand) {
  const Tensor w_EFD = at::arange(1, 13, at::kFloat).view({2, 3, 2});
  const Tensor x_RD = at::tensor(std::vector<float>{1, 10}).view({1, 2});
  EXPECT_TRUE(same(grouped_matmul(x_RD, w_EFD, {1, 0}),
                   at::tensor(std::vector<float>{21, 43, 65}).view({1, 3})));
  EXPECT_TRUE(same(grouped_matmul(x_RD, w_EFD, {0, 1}),
                   at::tensor(std::vector<float>{87, 109, 131}).view({1, 3})));
}

TEST(GroupedMatmulTest, EqualsThePlainLoopInEveryDtype) {
  const Tensor x_RD = normal_tensor({8, 16}, "x"), w_EFD = normal_tensor({5, 7, 16}, "w");
  const Tensor expected = plain_loop(x_RD, w_EFD, kRows);
  EXPECT_TRUE(near(grouped_matmul(x_RD, w_EFD, kRows), expected, 1e-14));
  EXPECT_TRUE(near(grouped_matmul(x_RD.to(at::kFloat), w_EFD.to(at::kFloat), kRows),
                   expected.to(at::kFloat), 1e-5));
  const Tensor x = x_RD.to(at::kBFloat16), w = w_EFD.to(at::kBFloat16);
  EXPECT_TRUE(near(grouped_matmul(x, w, kRows),
                   plain_loop(x.to(at::kDouble), w.to(at::kDouble), kRows).to(at::kBFloat16),
                   0x1.0p-7));
}

TEST(GroupedMatmulTest, TakesRowsThatAreNotContiguous) {
  const Tensor x_DR = normal_tensor({4, 8}, "x"), w_EFD = normal_tensor({5, 3, 4}, "w");
  EXPECT_TRUE(
      near(grouped_matmul(x_DR.t(), w_EFD, kRows), plain_loop(x_DR.t(), w_EFD, kRows), 1e-14));
}

TEST(GroupedMatmulTest, GradientsMatchFiniteDifferences) {
  const auto f = [](const std::vector<Tensor>& in) { return grouped_matmul(in[0], in[1], kRows); };
  EXPECT_TRUE(gradients_match(f, {normal_tensor({8, 4}, "x"), normal_tensor({5, 3, 4}, "w")}));
}

TEST(GroupedMatmulTest, AnExpertWithoutRowsHasAGradientOfExactlyZero) {
  const auto f = [](const std::vector<Tensor>& in) { return grouped_matmul(in[0], in[1], kRows); };
  const auto gradients =
      gradients_of(f, {normal_tensor({8, 4}, "x"), normal_tensor({5, 3, 4}, "w")},
                   at::ones({8, 3}, at::kDouble));
  for (const int64_t empty : {1, 4}) {
    EXPECT_TRUE(same(gradients[1][empty], at::zeros({3, 4}, at::kDouble)));
  }
  for (const int64_t used : {0, 2, 3}) EXPECT_GT(gradients[1][used].abs().min().item<double>(), 0);
}

TEST(GroupedMatmulTest, NoRowsAtAllKeepTheGraph) {
  Tensor x_RD = at::empty({0, 4}), w_EFD = at::ones({2, 3, 4});
  w_EFD.set_requires_grad(true);
  x_RD.set_requires_grad(true);
  const Tensor y_RF = grouped_matmul(x_RD, w_EFD, {0, 0});
  EXPECT_EQ(y_RF.sizes(), (std::vector<int64_t>{0, 3}));
  ASSERT_TRUE(y_RF.requires_grad());
  y_RF.sum().backward();
  ASSERT_TRUE(w_EFD.grad().defined());
  EXPECT_TRUE(same(w_EFD.grad(), at::zeros({2, 3, 4})));
  EXPECT_EQ(x_RD.grad().sizes(), x_RD.sizes());
}

TEST(GroupedMatmulTest, GivesOnlyTheGradientThatIsNeeded) {
  const Tensor x_RD = normal_tensor({8, 4}, "x"), w_EFD = normal_tensor({5, 3, 4}, "w");
  Tensor x = x_RD.clone().set_requires_grad(true), w = w_EFD.clone().set_requires_grad(true);
  grouped_matmul(x, w, kRows).sum().backward();
  Tensor only_x = x_RD.clone().set_requires_grad(true);
  grouped_matmul(only_x, w_EFD, kRows).sum().backward();
  EXPECT_TRUE(same(only_x.grad(), x.grad()));
  Tensor only_w = w_EFD.clone().set_requires_grad(true);
  grouped_matmul(x_RD, only_w, kRows).sum().backward();
  EXPECT_TRUE(same(only_w.grad(), w.grad()));
}

TEST(GroupedMatmulTest, RefusesShapesThatDoNotFit) {
  const Tensor x_RD = at::ones({3, 4}), w_EFD = at::ones({2, 5, 4});
  EXPECT_THROW(grouped_matmul(x_RD, w_EFD, {1, 1}), c10::Error);
  EXPECT_THROW(grouped_matmul(x_RD, w_EFD, {3}), c10::Error);
  EXPECT_THROW(grouped_matmul(x_RD, w_EFD, {1, 1, 1}), c10::Error);
  EXPECT_THROW(grouped_matmul(at::ones({3, 5}), w_EFD, {1, 2}), c10::Error);
  EXPECT_THROW(grouped_matmul(x_RD, at::ones({5, 4}), {1, 2}), c10::Error);
}

}  // namespace
}  // namespace switchyard
