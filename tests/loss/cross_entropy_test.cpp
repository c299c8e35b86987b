#include "loss/cross_entropy.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "support/tensors.h"

namespace switchyard {
namespace {

using at::Tensor;

TEST(CrossEntropyTest, IsLnVPerTokenForZeroLogits) {
  const Tensor loss = cross_entropy_sum(at::zeros({5, 256}), at::arange(5));
  EXPECT_NEAR(loss.item<double>(), 5 * std::log(256.0), 1e-5);
}

TEST(CrossEntropyTest, IsMinusTheLogProbabilityOfTheTarget) {
  // Probabilities 0.7, 0.2, 0.1 in both rows.
  const Tensor logits_TV = at::tensor({0.7, 0.2, 0.1}, at::kFloat).log().repeat({2, 1});
  const Tensor loss = cross_entropy_sum(logits_TV, at::tensor({0, 2}, at::kLong));
  EXPECT_NEAR(loss.item<double>(), -std::log(0.7) - std::log(0.1), 1e-6);
}

TEST(CrossEntropyTest, IsTheSumOfWhatTorchAverages) {
  const Tensor logits_TV = normal_tensor({12, 7}, "logits", at::kFloat);
  const Tensor targets_T = at::arange(12).remainder(7);
  const Tensor mean = at::cross_entropy_loss(logits_TV, targets_T);
  EXPECT_TRUE(near(cross_entropy_sum(logits_TV, targets_T), mean * 12, 1e-6));
}

TEST(CrossEntropyTest, EachTokensOwnAddUpToTheSum) {
  const Tensor logits_TV = normal_tensor({12, 7}, "logits", at::kBFloat16);
  const Tensor targets_T = at::arange(12).remainder(7);
  targets_T[4] = kIgnoredTarget;
  const Tensor losses_T = cross_entropy_of_tokens(logits_TV, targets_T);
  const Tensor minus_T = logits_TV.to(at::kFloat)
                             .log_softmax(1)
                             .gather(1, targets_T.clamp_min(0).unsqueeze(1))
                             .squeeze(1);
  EXPECT_TRUE(near(losses_T, at::where(targets_T == kIgnoredTarget, 0, -minus_T), 1e-6));
  EXPECT_TRUE(near(losses_T.sum(), cross_entropy_sum(logits_TV, targets_T), 1e-6));
  EXPECT_EQ(cross_entropy_of_tokens(at::zeros({0, 7}), at::zeros({0}, at::kLong)).sizes(),
            (std::vector<int64_t>{0}));
}

TEST(CrossEntropyTest, TheGradientIsSoftmaxMinusOneHot) {
  const Tensor logits_TV = normal_tensor({6, 5}, "logits");
  const Tensor targets_T = at::tensor({0, 4, 2, 2, 1, 3}, at::kLong);
  const TensorFunction loss = [&](const auto& in) { return cross_entropy_sum(in[0], targets_T); };
  const Tensor expected = logits_TV.softmax(1) - at::one_hot(targets_T, 5);
  EXPECT_TRUE(near(gradients_of(loss, {logits_TV}, at::ones({}, at::kDouble))[0], expected, 1e-12));
  EXPECT_TRUE(gradients_match(loss, {logits_TV}));
}

TEST(CrossEntropyTest, LeavesOutIgnoredTargetsAndTheirGradient) {
  const Tensor logits_TV = normal_tensor({4, 5}, "logits", at::kFloat);
  const Tensor targets_T = at::tensor({1, -100, 3, -100}, at::kLong);
  const Tensor counted = at::tensor({0, 2}, at::kLong);
  const Tensor expected =
      cross_entropy_sum(logits_TV.index_select(0, counted), targets_T.index_select(0, counted));
  EXPECT_TRUE(near(cross_entropy_sum(logits_TV, targets_T), expected, 1e-6));
  const TensorFunction loss = [&](const auto& in) { return cross_entropy_sum(in[0], targets_T); };
  const Tensor gradient = gradients_of(loss, {logits_TV}, at::ones({}))[0];
  EXPECT_TRUE(same(gradient[1], at::zeros({5})));
  EXPECT_TRUE(same(gradient[3], at::zeros({5})));
  EXPECT_GT(gradient[0].abs().sum().item<double>(), 0);
}

TEST(CrossEntropyTest, IsZeroAndNotNanWhenEveryTargetIsIgnored) {
  const Tensor targets_T = at::full({3}, kIgnoredTarget, at::kLong);
  EXPECT_TRUE(same(cross_entropy_sum(at::ones({3, 5}), targets_T), at::zeros({})));
}

TEST(CrossEntropyTest, NoTokensGiveZeroThatStaysInTheGraph) {
  const Tensor logits_TV = at::empty({0, 5}).set_requires_grad(true);
  const Tensor loss = cross_entropy_sum(logits_TV, at::empty({0}, at::kLong));
  EXPECT_TRUE(same(loss.detach(), at::zeros({})));
  loss.backward();
  EXPECT_EQ(logits_TV.grad().sizes(), logits_TV.sizes());
}

TEST(CrossEntropyTest, SplitMicroBatchesAddUpToTheWhole) {
  const Tensor logits_TV = normal_tensor({12, 7}, "logits");
  const Tensor targets_T = at::arange(12).remainder(7);
  Tensor sum = at::zeros({}, at::kDouble);
  for (const auto& [begin, count] : {std::pair{0, 5}, {5, 1}, {6, 6}}) {
    sum += cross_entropy_sum(logits_TV.narrow(0, begin, count), targets_T.narrow(0, begin, count));
  }
  EXPECT_TRUE(near(sum, cross_entropy_sum(logits_TV, targets_T), 1e-12));
}

TEST(CrossEntropyTest, TakesTheSoftmaxOfBfloat16LogitsInFloat32) {
  const Tensor logits_TV = normal_tensor({12, 300}, "logits", at::kBFloat16);
  const Tensor targets_T = at::arange(12);
  const Tensor loss = cross_entropy_sum(logits_TV, targets_T);
  EXPECT_TRUE(near(loss, cross_entropy_sum(logits_TV.to(at::kFloat), targets_T), 1e-7));
}

TEST(CrossEntropyTest, RefusesShapesThatDoNotFit) {
  EXPECT_THROW(cross_entropy_sum(at::zeros({3, 5}), at::zeros({2}, at::kLong)), c10::Error);
  EXPECT_THROW(cross_entropy_sum(at::zeros({1, 3, 5}), at::zeros({1}, at::kLong)), c10::Error);
}

}  // namespace
}  // namespace switchyard
