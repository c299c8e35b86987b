#include "ops/sort_by_expert.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/tensors.h"

namespace switchyard {
namespace {

using at::Tensor;

Tensor table(const std::vector<int64_t>& values, int64_t K) {
  return at::tensor(values, at::kLong).view({-1, K});
}

TEST(SortByExpertTest, ByHand) {
  // Pairs 0 to 5; 2 and 3 are dropped.
  const SortedPairs sorted =
      sort_by_expert(table({1, 0, 1, 0, 1, 3}, 2), table({1, 1, 0, 0, 1, 1}, 2).to(at::kBool), 4);
  EXPECT_TRUE(same(sorted.order, at::tensor(std::vector<int64_t>{1, 0, 4, 5, 2, 3})));
  EXPECT_TRUE(same(sorted.slot_TK, table({1, 0, -1, -1, 2, 3}, 2)));
  EXPECT_TRUE(same(sorted.rows_E, at::tensor(std::vector<int64_t>{1, 2, 0, 1})));
  const RowMap map = sorted.map(4);
  EXPECT_TRUE(same(map.pair_S, at::tensor(std::vector<int64_t>{1, 0, 4, 5})));
  EXPECT_TRUE(same(map.slot_TK, sorted.slot_TK));
}

TEST(SortByExpertTest, NoTokens) {
  const SortedPairs sorted =
      sort_by_expert(at::empty({0, 2}, at::kLong), at::empty({0, 2}, at::kBool), 3);
  EXPECT_EQ(sorted.order.numel(), 0);
  EXPECT_TRUE(same(sorted.rows_E, at::zeros({3}, at::kLong)));
}

TEST(SortByExpertTest, RefusesWhatDoesNotFit) {
  const Tensor experts = at::zeros({2, 2}, at::kLong);
  EXPECT_THROW(sort_by_expert(experts, at::ones({2, 1}, at::kBool), 2), c10::Error);
  EXPECT_THROW(sort_by_expert(experts, at::ones({2, 2}), 2), c10::Error);
}

}  // namespace
}  // namespace switchyard
