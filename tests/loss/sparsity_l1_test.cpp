#include "loss/sparsity_l1.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "support/tensors.h"

// T tokens, E experts.

namespace switchyard {
namespace {

using at::Tensor;

TEST(SparsityL1Test, D1_IsOneForOneHotAndRootEForUniform) {
  EXPECT_TRUE(near(sparsity_l1(at::eye(9, at::kDouble)), at::ones({9}, at::kDouble), 1e-12));
  EXPECT_TRUE(near(sparsity_l1(at::full({2, 9}, 1.0 / 9, at::kDouble)),
                   at::full({2}, 3.0, at::kDouble), 1e-12));
}

TEST(SparsityL1Test, D1_LiesBetweenOneAndRootE) {
  const Tensor loss_T = sparsity_l1((4 * normal_tensor({200, 8}, "logits")).softmax(1));
  EXPECT_GE(loss_T.min().item<double>(), 1 - 1e-12);
  EXPECT_LE(loss_T.max().item<double>(), std::sqrt(8.0));
}

// || p / ||p||_2 ||_1 by torch's own norms.
TEST(SparsityL1Test, D1_IsTheL1NormOfTheNormalisedRow) {
  const Tensor p_TE = normal_tensor({100, 6}, "logits").softmax(1);
  const Tensor unit_TE =
      p_TE / at::linalg_vector_norm(p_TE, 2, at::IntArrayRef{1}, /*keepdim=*/true);
  EXPECT_TRUE(near(sparsity_l1(p_TE), at::norm(unit_TE, 1, 1), 1e-12));
}

TEST(SparsityL1Test, D1_TheGradientMatchesDifferences) {
  const TensorFunction loss = [](const auto& in) { return sparsity_l1(in[0].softmax(1)); };
  EXPECT_TRUE(gradients_match(loss, {normal_tensor({4, 5}, "logits")}));
}

TEST(SparsityL1Test, ARowOfZerosGivesZeroAndNoGradient) {
  const TensorFunction loss = [](const auto& in) { return sparsity_l1(in[0]); };
  const Tensor zeros_TE = at::zeros({2, 3}, at::kDouble);
  EXPECT_TRUE(same(sparsity_l1(zeros_TE), at::zeros({2}, at::kDouble)));
  EXPECT_TRUE(same(gradients_of(loss, {zeros_TE}, at::ones({2}, at::kDouble))[0], zeros_TE));
}

}  // namespace
}  // namespace switchyard
