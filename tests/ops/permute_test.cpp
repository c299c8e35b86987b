#include "ops/permute.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/tensors.h"

// T tokens, K choices each, S rows in the send buffer, D = 2 unless told.

namespace switchyard {
namespace {

using at::Tensor;

/// The map in which row s holds pair pairs[s] = t * K + k; other pairs are dropped.
RowMap make_map(int64_t T, int64_t K, const std::vector<int64_t>& pairs) {
  RowMap map{at::tensor(pairs, at::kLong), at::full({T, K}, -1, at::kLong)};
  for (size_t s = 0; s < pairs.size(); ++s) {
    map.slot_TK.view({-1})[pairs[s]] = static_cast<int64_t>(s);
  }
  return map;
}

// Three tokens of two choices; pair 2 (token 1's first) is dropped and so are both
// of token 2, pairs 4 and 5.
RowMap three_tokens() { return make_map(3, 2, {3, 0, 1}); }

Tensor rows_of(const std::vector<double>& values, int64_t columns) {
  return at::tensor(values, at::kDouble).view({-1, columns});
}

TEST(GatherTokensTest, CopiesATokenOncePerKeptChoice) {
  const Tensor x_TD = rows_of({1, 2, 3, 4, 5, 6}, 2), expected = rows_of({3, 4, 1, 2, 1, 2}, 2);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    EXPECT_TRUE(same(gather_tokens(x_TD.to(dtype), three_tokens()), expected.to(dtype)));
  }
}

TEST(GatherTokensTest, BackwardSumsATokensCopies) {
  const auto f = [](const std::vector<Tensor>& in) { return gather_tokens(in[0], three_tokens()); };
  const auto gradients =
      gradients_of(f, {at::zeros({3, 2}, at::kDouble)}, rows_of({1, 2, 10, 20, 100, 200}, 2));
  EXPECT_TRUE(same(gradients[0], rows_of({110, 220, 1, 2, 0, 0}, 2)));
  EXPECT_TRUE(gradients_match(f, {normal_tensor({3, 2}, "x")}));
}

// In float32 1e8 - 1e8 + 1 is 1, and 1e8 + 1 - 1e8 is 0: the sum tells its order.
TEST(GatherTokensTest, BackwardSumsInTheOrderOfTheChoices) {
  for (const auto& pairs : {std::vector<int64_t>{0, 1, 2}, {2, 0, 1}, {2, 1, 0}}) {
    const RowMap map = make_map(1, 3, pairs);
    const Tensor by_choice = at::tensor(std::vector<float>{1e8F, -1e8F, 1}).view({3, 1});
    Tensor x_TD = at::zeros({1, 1}).set_requires_grad(true);
    gather_tokens(x_TD, map).backward(by_choice.index_select(0, map.pair_S));
    EXPECT_EQ(x_TD.grad().item<float>(), 1.0F);
  }
}

TEST(GatherTokensTest, EveryPairDropped) {
  Tensor x_TD = at::ones({2, 3}).set_requires_grad(true);
  const Tensor sent_SD = gather_tokens(x_TD, make_map(2, 2, {}));
  EXPECT_EQ(sent_SD.sizes(), (std::vector<int64_t>{0, 3}));
  ASSERT_TRUE(sent_SD.requires_grad());
  sent_SD.sum().backward();
  EXPECT_TRUE(same(x_TD.grad(), at::zeros({2, 3})));
}

TEST(CombineTokensTest, WeighsTheKeptRowsAndADroppedPairAddsNothing) {
  const Tensor y_SD = rows_of({1, 2, 10, 20, 100, 200}, 2);
  const Tensor weights_TK = rows_of({0.5, 0.25, 7, 2, 3, 4}, 2);
  const Tensor expected = rows_of({30, 60, 2, 4, 0, 0}, 2);
  EXPECT_TRUE(same(combine_tokens(y_SD, weights_TK, three_tokens()), expected));
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    EXPECT_TRUE(same(combine_tokens(y_SD.to(dtype), weights_TK.to(at::kFloat), three_tokens()),
                     expected.to(dtype)));
  }
}

TEST(CombineTokensTest, SumsInTheOrderOfTheChoices) {
  for (const auto& pairs : {std::vector<int64_t>{0, 1, 2}, {2, 0, 1}, {2, 1, 0}}) {
    const RowMap map = make_map(1, 3, pairs);
    const Tensor by_choice = at::tensor(std::vector<float>{1e8F, -1e8F, 1}).view({3, 1});
    const Tensor y_SD = by_choice.index_select(0, map.pair_S);
    EXPECT_EQ(combine_tokens(y_SD, at::ones({1, 3}), map).item<float>(), 1.0F);
  }
}

TEST(CombineTokensTest, Bfloat16IsSummedInFloat32) {
  // 256 + 1 is 256 in bfloat16, 256 + 1 + 1 is 258 when it is rounded once.
  const Tensor y_SD = rows_of({256, 1, 1}, 1).to(at::kBFloat16);
  const RowMap map = make_map(1, 3, {0, 1, 2});
  EXPECT_EQ(combine_tokens(y_SD, at::ones({1, 3}), map).item<float>(), 258.0F);
  Tensor x_TD = at::zeros({1, 1}, at::kBFloat16).set_requires_grad(true);
  gather_tokens(x_TD, map).backward(y_SD);
  EXPECT_EQ(x_TD.grad().item<float>(), 258.0F);
}

TEST(CombineTokensTest, GradientsMatchFiniteDifferences) {
  const auto f = [](const std::vector<Tensor>& in) {
    return combine_tokens(in[0], in[1], three_tokens());
  };
  EXPECT_TRUE(gradients_match(f, {normal_tensor({3, 4}, "y"), normal_tensor({3, 2}, "weights")}));
}

TEST(CombineTokensTest, R13_AValueScaleActsOnTheValueAndNotOnTheGradient) {
  const Tensor y_SD = rows_of({1, 2, 10, 20, 100, 200}, 2);
  const Tensor weights_TK = rows_of({0.5, 0.25, 7, 2, 3, 4}, 2);
  const Tensor scale_TK = rows_of({0.5, 1, 9, 3, 9, 9}, 2);
  const auto combined = [&](const Tensor& scale) {
    return [scale](const std::vector<Tensor>& in) {
      return combine_tokens(in[0], in[1], three_tokens(), scale);
    };
  };
  EXPECT_TRUE(same(combined(scale_TK)({y_SD, weights_TK}),
                   combine_tokens(y_SD, weights_TK * scale_TK, three_tokens())));
  const Tensor d_TD = normal_tensor({3, 2}, "weight of the outputs");
  const auto scaled = gradients_of(combined(scale_TK), {y_SD, weights_TK}, d_TD),
             plain = gradients_of(combined({}), {y_SD, weights_TK}, d_TD);
  EXPECT_TRUE(same(scaled[0], plain[0]));
  EXPECT_TRUE(same(scaled[1], plain[1]));
}

TEST(CombineTokensTest, ADroppedPairsWeightHasAGradientOfExactlyZero) {
  Tensor y_SD = at::ones({3, 2}, at::kBFloat16).set_requires_grad(true);
  Tensor weights_TK = at::full({3, 2}, 0.5F).set_requires_grad(true);
  combine_tokens(y_SD, weights_TK, three_tokens()).sum().backward();
  EXPECT_TRUE(same(weights_TK.grad(), rows_of({2, 2, 0, 2, 0, 0}, 2).to(at::kFloat)));
  EXPECT_TRUE(same(y_SD.grad(), at::full({3, 2}, 0.5, at::kBFloat16)));
}

TEST(CombineTokensTest, EveryPairDropped) {
  Tensor y_SD = at::empty({0, 3}).set_requires_grad(true);
  Tensor weights_TK = at::ones({2, 2}).set_requires_grad(true);
  const Tensor out_TD = combine_tokens(y_SD, weights_TK, make_map(2, 2, {}));
  EXPECT_TRUE(same(out_TD, at::zeros({2, 3})));
  out_TD.sum().backward();
  EXPECT_TRUE(same(weights_TK.grad(), at::zeros({2, 2})));
  EXPECT_EQ(y_SD.grad().sizes(), y_SD.sizes());
}

TEST(CombineTokensTest, UndoesGatherWhenNothingIsDroppedAndWeightsSumToOne) {
  const RowMap map = make_map(4, 2, {7, 2, 0, 5, 1, 6, 3, 4});
  const Tensor x_TD = normal_tensor({4, 3}, "x");
  const Tensor halves_TK = at::full({4, 2}, 0.5, at::kDouble);
  EXPECT_TRUE(same(combine_tokens(gather_tokens(x_TD, map), halves_TK, map), x_TD));
}

TEST(PermuteTest, PaddingRowsOfTheSendBufferAreZeroAndGetNoGradient) {
  const RowMap map{at::tensor(std::vector<int64_t>{1, -1, 0}),
                   at::tensor(std::vector<int64_t>{2, 0}).view({2, 1})};
  const Tensor x_TD = normal_tensor({2, 3}, "x"), weights_TK = normal_tensor({2, 1}, "weights");
  EXPECT_TRUE(
      same(gather_tokens(x_TD, map), at::stack({x_TD[1], at::zeros_like(x_TD[0]), x_TD[0]})));
  const auto gather = [&](const std::vector<Tensor>& in) { return gather_tokens(in[0], map); };
  const auto combine = [&](const std::vector<Tensor>& in) {
    return combine_tokens(in[0], in[1], map);
  };
  EXPECT_TRUE(gradients_match(gather, {x_TD}));
  EXPECT_TRUE(gradients_match(combine, {normal_tensor({3, 3}, "y"), weights_TK}));
}

TEST(PermuteTest, MoreRowsThanOneTaskHolds) {
  constexpr int64_t kTokens = 1000, kChoices = 2;
  const Tensor pair_S = at::arange(kTokens * kChoices - 1, -1, -1, at::kLong);
  const RowMap map{pair_S, pair_S.view({kTokens, kChoices})};  // its own inverse
  const Tensor x_TD = normal_tensor({kTokens, 5}, "x"),
               weights_TK = normal_tensor({kTokens, kChoices}, "weights");
  const Tensor sent_SD = gather_tokens(x_TD, map);
  EXPECT_TRUE(same(sent_SD, x_TD.repeat_interleave(kChoices, 0).flip(0)));
  EXPECT_TRUE(near(combine_tokens(sent_SD, weights_TK, map),
                   x_TD * weights_TK.sum(1, /*keepdim=*/true), 1e-14));
}

TEST(PermuteTest, RefusesShapesThatDoNotFit) {
  const RowMap map = three_tokens();
  EXPECT_THROW(gather_tokens(at::ones({2, 2}), map), c10::Error);
  EXPECT_THROW(gather_tokens(at::ones({3}), map), c10::Error);
  EXPECT_THROW(combine_tokens(at::ones({2, 2}), at::ones({3, 2}), map), c10::Error);
  EXPECT_THROW(combine_tokens(at::ones({3, 2}), at::ones({3, 1}), map), c10::Error);
  EXPECT_THROW(combine_tokens(at::ones({3, 2}), at::ones({3, 2}, at::kBFloat16), map), c10::Error);
}

}  // namespace
}  // namespace switchyard
