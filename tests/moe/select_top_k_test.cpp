#include "moe/select_top_k.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "support/tensors.h"

namespace switchyard {
namespace {

using at::Tensor;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Tensor ids(std::vector<int64_t> values, int64_t k) {
  return at::tensor(values, at::kLong).view({-1, k});
}

TEST(SelectTopKTest, AgreesWithTorchOnDistinctScores) {
  const Tensor scores_TE = normal_tensor({700, 16}, "scores", at::kFloat);
  for (const int64_t k : {1, 2, 5, 16}) {
    EXPECT_TRUE(same(select_top_k(scores_TE, k), std::get<1>(scores_TE.topk(k, 1)))) << k;
  }
}

TEST(SelectTopKTest, TiesGoToTheLowerId) {
  EXPECT_TRUE(same(select_top_k(at::zeros({3, 6}), 3), ids({0, 1, 2, 0, 1, 2, 0, 1, 2}, 3)));
  const Tensor scores_TE =
      at::tensor({1.0, 3.0, 2.0, 3.0, 2.0, 2.0, 5.0, 5.0, 1.0, 5.0}, at::kFloat).view({2, 5});
  EXPECT_TRUE(same(select_top_k(scores_TE, 4), ids({1, 3, 2, 4, 1, 2, 4, 0}, 4)));
}

TEST(SelectTopKTest, MinusInfinityIsChosenLastAndNeverTwice) {
  const Tensor scores_TE = at::tensor({-kInfinity, 1.0F, -kInfinity, 2.0F, -kInfinity, -kInfinity,
                                       -kInfinity, -kInfinity},
                                      at::kFloat)
                               .view({2, 4});
  EXPECT_TRUE(same(select_top_k(scores_TE, 3), ids({3, 1, 0, 0, 1, 2}, 3)));
}

TEST(SelectTopKTest, NoIdTwiceEvenForNan) {
  const Tensor scores_TE = at::full({2, 4}, std::numeric_limits<float>::quiet_NaN());
  EXPECT_TRUE(same(select_top_k(scores_TE, 4), ids({0, 1, 2, 3, 0, 1, 2, 3}, 4)));
}

TEST(SelectTopKTest, ReadsScoresThatAreNotContiguous) {
  const Tensor scores_TE = normal_tensor({5, 40}, "scores", at::kFloat).t();
  EXPECT_TRUE(same(select_top_k(scores_TE, 2), select_top_k(scores_TE.contiguous(), 2)));
}

TEST(SelectTopKTest, NoTokens) {
  EXPECT_TRUE(same(select_top_k(at::empty({0, 4}), 2), at::empty({0, 2}, at::kLong)));
}

TEST(SelectTopKTest, RefusesMoreThanThereAreAndOtherDtypes) {
  EXPECT_THROW(select_top_k(at::zeros({2, 4}), 5), c10::Error);
  EXPECT_THROW(select_top_k(at::zeros({2, 4}), 0), c10::Error);
  EXPECT_THROW(select_top_k(at::zeros({2, 4}, at::kLong), 2), c10::Error);
}

}  // namespace
}  // namespace switchyard
