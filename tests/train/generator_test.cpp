#include "train/generator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <vector>

namespace switchyard {
namespace {

at::Tensor logits_of(const std::vector<float>& probabilities) {
  return at::tensor(probabilities, at::kFloat).log();
}

TEST(ChooseTokenTest, TemperatureZeroTakesTheLikeliest) {
  SamplingOptions options;
  options.temperature = 0;
  EXPECT_EQ(choose_token(logits_of({0.1F, 0.6F, 0.3F}), options, 3, 0.99), 1);
}

TEST(ChooseTokenTest, PaddingOfTheVocabularyIsNeverChosen) {
  SamplingOptions options;
  options.temperature = 0;
  EXPECT_EQ(choose_token(logits_of({0.1F, 0.2F, 0.7F}), options, /*vocabulary=*/2, 0.5), 1);
}

TEST(ChooseTokenTest, DrawsFollowTheDistribution) {
  const at::Tensor logits = logits_of({0.2F, 0.5F, 0.3F});  // in order: 1 (0.5), 2 (0.3), 0 (0.2)
  const SamplingOptions options;
  EXPECT_EQ(choose_token(logits, options, 3, 0.0), 1);
  EXPECT_EQ(choose_token(logits, options, 3, 0.49), 1);
  EXPECT_EQ(choose_token(logits, options, 3, 0.51), 2);
  EXPECT_EQ(choose_token(logits, options, 3, 0.79), 2);
  EXPECT_EQ(choose_token(logits, options, 3, 0.81), 0);
  EXPECT_EQ(choose_token(logits, options, 3, 0.9999), 0);
}

TEST(ChooseTokenTest, TopKLeavesTheKLikeliest) {
  SamplingOptions options;
  options.top_k = 2;
  EXPECT_EQ(choose_token(logits_of({0.2F, 0.5F, 0.3F}), options, 3, 0.9999), 2);
  options.top_k = 1;
  EXPECT_EQ(choose_token(logits_of({0.2F, 0.5F, 0.3F}), options, 3, 0.9999), 1);
}

TEST(ChooseTokenTest, TopPLeavesTheSmallestSetOfThatMass) {
  SamplingOptions options;
  options.top_p = 0.7;  // 0.5 is not enough, 0.5 + 0.3 is
  EXPECT_EQ(choose_token(logits_of({0.2F, 0.5F, 0.3F}), options, 3, 0.9999), 2);
  options.top_p = 0.4;
  EXPECT_EQ(choose_token(logits_of({0.2F, 0.5F, 0.3F}), options, 3, 0.9999), 1);
}

TEST(ChooseTokenTest, TemperatureSharpensAndFlattens) {
  SamplingOptions options;
  options.temperature = 0.25;  // p^4: 0.0625 / (0.0625 + 0.0081 + 0.0016) = 0.866
  EXPECT_EQ(choose_token(logits_of({0.2F, 0.5F, 0.3F}), options, 3, 0.86), 1);
  EXPECT_EQ(choose_token(logits_of({0.2F, 0.5F, 0.3F}), options, 3, 0.87), 2);
}

TEST(ChooseTokenTest, EqualLogitsGoToTheLowerId) {
  SamplingOptions options;
  options.top_k = 1;
  EXPECT_EQ(choose_token(at::zeros({4}), options, 4, 0.5), 0);
}

}  // namespace
}  // namespace switchyard
