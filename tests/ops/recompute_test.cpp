#include "ops/recompute.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "ops/swiglu_experts.h"
#include "support/tensors.h"

namespace switchyard {
namespace {

using at::Tensor;

/// Two outputs of three inputs, one of which is undefined, and a weight; counts its calls.
struct Sample {
  Tensor weight = normal_tensor({4, 4}, "weight", at::kFloat).set_requires_grad(true);
  Tensor x = normal_tensor({3, 4}, "x", at::kFloat).set_requires_grad(true);
  Tensor scale = normal_tensor({3, 1}, "scale", at::kFloat).set_requires_grad(true);
  int calls = 0;
  c10::weak_intrusive_ptr<c10::StorageImpl> inner{c10::intrusive_ptr<c10::StorageImpl>()};

  Piece piece() {
    return [this](const std::vector<Tensor>& inputs) {
      calls += 1;
      EXPECT_FALSE(inputs[2].defined());
      const Tensor h = at::linear(inputs[0], weight).tanh();
      inner = h.storage().getWeakStorageImpl();
      return std::vector<Tensor>{h * inputs[1], h.square() + inputs[0]};
    };
  }
  std::vector<Tensor> inputs() const { return {x * 2, scale, Tensor()}; }
};

void expect_gradients_of(const Sample& sample, const Sample& plain) {
  EXPECT_TRUE(same(sample.x.grad(), plain.x.grad()));
  EXPECT_TRUE(same(sample.weight.grad(), plain.weight.grad()));
  EXPECT_TRUE(same(sample.scale.grad(), plain.scale.grad()));
}

TEST(RecomputeTest, ValuesAndGradientsAreThoseOfAPlainCall) {
  Sample sample, plain;
  const std::vector<Tensor> y = recomputed(sample.piece(), sample.inputs());
  const std::vector<Tensor> expected = plain.piece()(plain.inputs());
  for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(same(y[i], expected[i]));
  (y[0].sin().sum() + y[1].sum()).backward();
  (expected[0].sin().sum() + expected[1].sum()).backward();
  expect_gradients_of(sample, plain);
  EXPECT_EQ(sample.calls, 2);
}

TEST(RecomputeTest, AnOutputThatNobodyReadsGetsNoGradient) {
  Sample sample, plain;
  recomputed(sample.piece(), sample.inputs())[1].sum().backward();
  plain.piece()(plain.inputs())[1].sum().backward();
  EXPECT_FALSE(plain.scale.grad().defined());
  EXPECT_FALSE(sample.scale.grad().defined());
  EXPECT_TRUE(same(sample.x.grad(), plain.x.grad()));
}

TEST(RecomputeTest, NothingOfThePieceStaysBetweenForwardAndBackward) {
  Sample plain, sample;
  const std::vector<Tensor> kept = plain.piece()(plain.inputs());
  EXPECT_FALSE(plain.inner.expired());
  const std::vector<Tensor> y = recomputed(sample.piece(), sample.inputs());
  EXPECT_TRUE(sample.inner.expired());
  y[0].sum().backward();
  EXPECT_TRUE(sample.inner.expired());
}

TEST(RecomputeTest, ALeafInsideGetsItsGradientWhereNoInputWantsOne) {
  Sample sample;
  recomputed(sample.piece(), {sample.x.detach(), sample.scale.detach(), Tensor()})[0]
      .sum()
      .backward();
  EXPECT_TRUE(sample.weight.grad().defined());
}

TEST(RecomputeTest, WithoutAGraphThePieceRunsOnce) {
  Sample sample;
  {
    const at::NoGradGuard evaluation;
    EXPECT_FALSE(recomputed(sample.piece(), sample.inputs())[0].requires_grad());
  }
  sample.weight.set_requires_grad(false);  // all of it is frozen
  const std::vector<Tensor> frozen = {sample.x.detach(), sample.scale.detach(), Tensor()};
  EXPECT_FALSE(recomputed(sample.piece(), frozen)[0].requires_grad());
  EXPECT_EQ(sample.calls, 2);
}

// One piece after the other, and one within another, as experts within a layer could be.
TEST(RecomputeTest, PiecesFollowAndHoldEachOther) {
  Sample sample, plain;
  const auto twice = [](const Piece& piece, const Sample& of) {
    std::vector<Tensor> y = piece(of.inputs());
    return piece({y[0], of.scale, Tensor()})[0].sum();
  };
  const Piece inner = [&](const std::vector<Tensor>& inputs) {
    return recomputed(sample.piece(), inputs);
  };
  twice([&](const std::vector<Tensor>& inputs) { return recomputed(inner, inputs); }, sample)
      .backward();
  twice(plain.piece(), plain).backward();
  EXPECT_TRUE(same(sample.x.grad(), plain.x.grad()));
  EXPECT_TRUE(near(sample.weight.grad(), plain.weight.grad(), 1e-6));  // summed once per piece
}

TEST(RecomputeTest, TheInnerOfExpertsIsMadeAgainToTheBit) {
  const std::vector<int64_t> rows_E = {300, 0, 41};
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const auto run = [&](Inner inner) {
      std::vector<Tensor> leaves = {normal_tensor({341, 130}, "x", dtype),
                                    normal_tensor({3, 140, 130}, "in", dtype) / 8,
                                    normal_tensor({3, 130, 70}, "down", dtype) / 8};
      for (Tensor& leaf : leaves) leaf = leaf.detach().set_requires_grad(true);
      const Tensor y = swiglu_experts(leaves[0], leaves[1], leaves[2], rows_E, inner);
      y.backward(normal_tensor({341, 130}, "dy", dtype));
      return std::vector<Tensor>{y.detach(), leaves[0].grad(), leaves[1].grad(), leaves[2].grad()};
    };
    const std::vector<Tensor> kept = run(Inner::kKept), again = run(Inner::kMadeAgain);
    for (size_t i = 0; i < kept.size(); ++i) EXPECT_TRUE(same(again[i], kept[i])) << i;
  }
}

}  // namespace
}  // namespace switchyard
