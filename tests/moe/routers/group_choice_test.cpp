#include "moe/routers/group_choice.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "moe/sample_moe.h"
#include "support/tensors.h"

namespace switchyard {
namespace {

using at::Tensor;

Tensor ids(const std::vector<int64_t>& values) { return at::tensor(values, at::kLong); }

TEST(GroupChoiceTest, GroupsAreRunsOfTokensWithoutPadding) {
  TokenContext context = context_of(3, 4);
  ASSERT_EQ(tokens_of_groups(12, context).size(), 3U);
  EXPECT_TRUE(same(tokens_of_groups(12, context)[1], ids({4, 5, 6, 7})));
  context.valid_T = bools({1, 1, 0, 1, 0, 0, 0, 0, 0, 1, 1, 0});
  const auto groups = tokens_of_groups(12, context);
  ASSERT_EQ(groups.size(), 2U);
  EXPECT_TRUE(same(groups[0], ids({0, 1, 3})));
  EXPECT_TRUE(same(groups[1], ids({9, 10})));
  EXPECT_TRUE(tokens_of_groups(0, context).empty());
}

TEST(GroupChoiceTest, AnExpertsShareIsRoundedUpFromOneToAllTokens) {
  EXPECT_EQ(tokens_per_expert(100, 0.56, 8), 7);  // a little more than 7 in binary
  EXPECT_EQ(tokens_per_expert(100, 0.57, 8), 8);
  EXPECT_EQ(tokens_per_expert(64, 2, 8), 16);
  EXPECT_EQ(tokens_per_expert(3, 0.1, 8), 1);
  EXPECT_EQ(tokens_per_expert(3, 20, 8), 3);
  EXPECT_EQ(tokens_per_expert(1, 2, 8), 1);
}

TEST(GroupChoiceTest, PlacesHoldTheChosenBestFirst) {
  const Tensor chosen_TE = bools({1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 1}).view({3, 4});
  const Tensor scores_TE =
      at::tensor({.1, .9, .3, .3, .4, .5, .1, .0, NAN, NAN, NAN, .2}, at::kFloat).view({3, 4});
  const Places places = place_choices(chosen_TE, scores_TE, 3);
  EXPECT_TRUE(same(places.experts_TK, ids({2, 3, 0, 0, 1, 2, 3, 1, 0}).view({3, 3})));
  EXPECT_TRUE(same(places.kept_TK, bools({1, 1, 1, 0, 0, 0, 1, 1, 0}).view({3, 3})));
  EXPECT_EQ(place_choices(at::empty({0, 4}, at::kBool), at::empty({0, 4}), 4).experts_TK.size(0),
            0);
}

}  // namespace
}  // namespace switchyard
