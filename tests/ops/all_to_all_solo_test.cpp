#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "distributed/solo_communicator.h"
#include "ops/all_to_all.h"
#include "support/tensors.h"

namespace switchyard {
namespace {

using at::Tensor;

TEST(AllToAllRowsSoloTest, IsTheIdentityForwardAndBackward) {
  const auto solo = make_solo_communicator("expert parallel");
  const auto f = [&](const std::vector<Tensor>& in) {
    return all_to_all_rows(in[0] * 2, RowBlocks::in_order({3}), RowBlocks::in_order({3}), *solo,
                           "solo");
  };
  const Tensor x_SD = normal_tensor({3, 2}, "x");
  EXPECT_TRUE(same(f({x_SD}), x_SD * 2));
  EXPECT_TRUE(gradients_match(f, {x_SD}));
}

TEST(AllToAllRowsSoloTest, ALeafKeepsItsOwnGradient) {
  const auto solo = make_solo_communicator("expert parallel");
  Tensor x_SD = at::ones({3, 2}).set_requires_grad(true);
  const Tensor y_RD =
      all_to_all_rows(x_SD, RowBlocks::in_order({3}), RowBlocks::in_order({3}), *solo, "solo");
  EXPECT_TRUE(x_SD.is_leaf());
  EXPECT_FALSE(y_RD.is_leaf());
  (y_RD * 5).sum().backward();
  EXPECT_TRUE(same(x_SD.grad(), at::full({3, 2}, 5.0F)));
}

TEST(AllToAllRowsSoloTest, NoRowsKeepTheGraph) {
  const auto solo = make_solo_communicator("expert parallel");
  Tensor x_SD = at::empty({0, 2}).set_requires_grad(true);
  const Tensor y_RD =
      all_to_all_rows(x_SD, RowBlocks::in_order({0}), RowBlocks::in_order({0}), *solo, "solo");
  ASSERT_TRUE(y_RD.requires_grad());
  y_RD.sum().backward();
  EXPECT_EQ(x_SD.grad().sizes(), x_SD.sizes());
}

}  // namespace
}  // namespace switchyard
