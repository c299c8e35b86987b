#include "train/upcycle.h"

#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"
#include "base/scratch_folder.h"
#include "train/dense_source.h"
#include "train/upcycle_receipt.h"

namespace switchyard {
namespace {

UpcycleOptions options_of(int64_t E, int64_t K, int64_t G = 1) {
  UpcycleOptions options;
  options.num_experts = E;
  options.top_k = K;
  if (G > 1) options.granularity = G;
  return options;
}

/// The receipt of an upcycling in this process, on random ids.
class UpcycleTest : public testing::Test {
 protected:
  UpcycleTest() : runtime_(argc_, argv_) {}

  UpcycleReceipt receipt_of(const std::vector<ModelSource>& sources,
                            const UpcycleOptions& options) {
    const UpcycledModel made = upcycle(sources, options);
    return measure_receipt(runtime_, sources, made,
                           sample_tokens(sources.front(), "", /*count=*/300, /*seed=*/1));
  }
  UpcycleReceipt receipt_of(const UpcycleOptions& options) {
    return receipt_of(one(dense_source()), options);
  }

 private:
  int argc_ = 0;
  char** argv_ = nullptr;

 protected:
  Runtime runtime_;
};

void expect_same_function(const UpcycleReceipt& receipt, const std::string& what) {
  EXPECT_LE(receipt.max_logit_difference, 1e-5) << what;
  EXPECT_LE(std::abs(receipt.loss_after - receipt.loss_before[0]), 1e-6) << what;
}

TEST_F(UpcycleTest, C6_1_LogitsAndLossOfNormalisedCopiesAreTheDenseModels) {
  for (const int64_t K : {1, 2, 4}) {
    for (const char* layers : {"all", "1", "last:2", "every:2"}) {
      UpcycleOptions options = options_of(8, K);
      options.layers = layers;
      expect_same_function(receipt_of(options), layers);
    }
  }
}

TEST_F(UpcycleTest, TheReceiptCountsTokensAndParameters) {
  UpcycleOptions options = options_of(8, 2);
  options.layers = "1,2";
  const UpcycleReceipt receipt = receipt_of(options);
  EXPECT_EQ(receipt.tokens, 299);  // 256, and 43 in a sequence that is filled up
  const int64_t ffn = 3 * 16 * 24, router = 8 * 16;
  EXPECT_EQ(receipt.parameters_total, receipt.parameters_before + 2 * (7 * ffn + router));
  EXPECT_EQ(receipt.parameters_active, receipt.parameters_before + 2 * (ffn + router));
  EXPECT_GT(receipt.loss_before[0], 1.0);
}

/// A receipt that could not tell models apart would call all of them equal.
TEST_F(UpcycleTest, TheReceiptShowsAFunctionThatChanged) {
  UpcycleOptions options = options_of(8, 2);
  options.normalize = false;
  const UpcycleReceipt receipt = receipt_of(options);
  EXPECT_GT(receipt.max_logit_difference, 0.1);
  EXPECT_GT(receipt.relative_logit_difference, 0.05);
  EXPECT_GT(std::abs(receipt.loss_after - receipt.loss_before[0]), 1e-3);
}

TEST_F(UpcycleTest, FineGrainedLogitsAreTheDenseModelsWhereTopKIsAMultipleOfG) {
  for (const auto& [E, K, G] :
       {std::array<int64_t, 3>{8, 2, 2}, {8, 4, 2}, {16, 4, 4}, {16, 8, 4}}) {
    expect_same_function(receipt_of(options_of(E, K, G)), "G " + std::to_string(G));
  }
  EXPECT_GT(receipt_of(options_of(8, 3, 2)).relative_logit_difference, 0.01);
  UpcycleOptions published = options_of(16, 4, 4);
  published.scaling = ExpertScaling::kPublished;
  EXPECT_GT(receipt_of(published).relative_logit_difference, 0.001);
}

TEST_F(UpcycleTest, WithASharedExpertTheFunctionStays) {
  for (const bool gated : {false, true}) {
    for (const int64_t G : {1, 2}) {
      UpcycleOptions options = options_of(8, 2, G);
      options.shared_expert = true;
      options.shared_gate = gated;
      expect_same_function(receipt_of(options), gated ? "gated" : "plain");
    }
  }
}

TEST_F(UpcycleTest, WithSigmoidScoresTheFunctionStays) {
  UpcycleOptions options = options_of(8, 4, 2);
  options.sigmoid = true;
  const std::vector<ModelSource> sources = one(dense_source());
  const UpcycledModel made = upcycle(sources, options);
  EXPECT_TRUE(made.model.tensors->has("model.layers.0.mlp.gate.e_score_correction_bias"));
  expect_same_function(receipt_of(options), "sigmoid");
}

TEST_F(UpcycleTest, P8_EqualBranchesAreTheSeed) {
  std::vector<ModelSource> sources;
  for (int i = 0; i < 3; ++i) sources.push_back(dense_source());
  const UpcycleReceipt receipt = receipt_of(sources, options_of(6, 2));
  expect_same_function(receipt, "branches");
  EXPECT_EQ(receipt.loss_before.size(), 3U);
}

TEST_F(UpcycleTest, P2_TheAverageOfEqualModelsIsTheModelAndOfOthersIsNot) {
  UpcycleOptions options;
  options.method = UpcycleMethod::kAverage;
  std::vector<ModelSource> sources;
  for (int i = 0; i < 3; ++i) sources.push_back(dense_source());
  EXPECT_EQ(receipt_of(sources, options).max_logit_difference, 0);
  sources[2] = dense_source({.branch = "b"});
  EXPECT_GT(receipt_of(sources, options).max_logit_difference, 0.1);
  options.weights = {1, 0, 0};
  const UpcycleReceipt receipt = receipt_of(sources, options);
  EXPECT_EQ(receipt.max_logit_difference, 0);
  EXPECT_NE(receipt.loss_before[0], receipt.loss_before[2]);
  EXPECT_EQ(receipt.parameters_total, receipt.parameters_before);
}

TEST_F(UpcycleTest, TheReceiptSaysAllThatMadeTheModel) {
  const std::vector<ModelSource> sources = one(dense_source());
  UpcycleOptions options = options_of(8, 2);
  options.method = UpcycleMethod::kDrop;
  const UpcycledModel made = upcycle(sources, options);
  const SampleTokens sample = sample_tokens(sources[0], "", 20, 1);
  const auto json =
      receipt_json(measure_receipt(runtime_, sources, made, sample), options, sources, made);
  EXPECT_EQ(json.at("method"), "drop");
  EXPECT_EQ(json.at("sources").at(0), "dense");
  EXPECT_EQ(json.at("flags").at("drop_ratio"), 0.5);
  EXPECT_EQ(json.at("tokens"), 19);
  EXPECT_NE(receipt_text(json).find("19 tokens: random ids"), std::string::npos);
}

TEST_F(UpcycleTest, TheConfigIsTheSourcesWithTheMoeThatWasAskedFor) {
  UpcycleOptions options = options_of(8, 4, 2);
  options.layers = "1,2";
  options.normalize = false;
  options.shared_expert = true;
  const std::vector<ModelSource> sources = one(dense_source());
  const UpcycledModel made = upcycle(sources, options);
  const RunConfig& config = made.model.config;
  EXPECT_EQ(config.model, sources[0].config.model);
  EXPECT_EQ(config.moe.layers, "1,2");
  EXPECT_EQ(config.moe.num_experts, 8);
  EXPECT_EQ(config.moe.top_k, 4);
  EXPECT_EQ(config.moe.expert_intermediate_size, 12);
  EXPECT_FALSE(config.moe.router.normalize);
  EXPECT_EQ(config.moe.shared_experts, (SharedExpertsConfig{1, 24, false}));
  EXPECT_EQ(parse_config(to_yaml(config), "again"), config);
  EXPECT_EQ(made.model.step, 7);
}

// ------------------------------------------------------------------ refusals and remarks

struct Refusal {
  const char* message;
  std::function<void(UpcycleOptions&)> change;
};

TEST(UpcycleOptionsTest, WrongValuesAndCombinationsAreNamed) {
  using Method = UpcycleMethod;
  const std::vector<Refusal> refusals = {
      {"--num-experts is required", [](auto& o) { o.num_experts.reset(); }},
      {"--top-k is required", [](auto& o) { o.top_k.reset(); }},
      {"--num-experts: must be at least 1, got 0", [](auto& o) { o.num_experts = 0; }},
      {"--top-k: must be at least 1, got -1", [](auto& o) { o.top_k = -1; }},
      {"--top-k: 9 is more than --num-experts 8", [](auto& o) { o.top_k = 9; }},
      {"--granularity: must be at least 1", [](auto& o) { o.granularity = 0; }},
      {"--num-experts: 8 is not a multiple of --granularity 3", [](auto& o) { o.granularity = 3; }},
      {"--drop-ratio is for --method drop, not copy", [](auto& o) { o.drop_ratio = 0.5; }},
      {"--noise-std is for --method noise, not copy", [](auto& o) { o.noise_std = 0.5; }},
      {"--weights is for --method average, not copy", [](auto& o) { o.weights = {1}; }},
      {"--drop-ratio: must be above 0 and at most 1, got 1.5",
       [](auto& o) { o.method = Method::kDrop, o.drop_ratio = 1.5; }},
      {"--noise-std: must be above 0, got -1",
       [](auto& o) { o.method = Method::kNoise, o.noise_std = -1; }},
      {"--router-init-std: must be above 0", [](auto& o) { o.router_init_std = 0; }},
      {"--no-normalize: sigmoid scores", [](auto& o) { o.sigmoid = true, o.normalize = false; }},
      {"--shared-gate: there is no shared expert", [](auto& o) { o.shared_gate = true; }},
      {"--num-experts: --method average makes a dense model",
       [](auto& o) { o.method = Method::kAverage; }},
      {"--method average: needs two --from",
       [](auto& o) { o = UpcycleOptions{.method = Method::kAverage}; }}};
  for (const Refusal& refusal : refusals) {
    UpcycleOptions options = options_of(8, 2);
    refusal.change(options);
    const std::string message =
        message_of<ConfigError>([&] { check_options(options, /*num_sources=*/1); });
    EXPECT_EQ(message.find(refusal.message), 0U) << message;
  }
  EXPECT_NO_THROW(check_options(options_of(8, 2), 1));
}

TEST(UpcycleOptionsTest, WeightsOfAnAverageFitTheSources) {
  const auto message = [](std::vector<double> weights) {
    const UpcycleOptions options{.method = UpcycleMethod::kAverage, .weights = std::move(weights)};
    return message_of<ConfigError>([&] { check_options(options, 2); });
  };
  EXPECT_NE(message({1, 2, 3}).find("3 weights for 2 sources"), std::string::npos);
  EXPECT_NE(message({1, -2}).find("must be numbers of 0 or more"), std::string::npos);
  EXPECT_NE(message({1, NAN}).find("must be numbers of 0 or more"), std::string::npos);
  EXPECT_NE(message({0, 0}).find("all are 0"), std::string::npos);
}

std::string refusal_of(const std::vector<ModelSource>& sources, const UpcycleOptions& options) {
  return message_of<ConfigError>([&] { upcycle(sources, options); });
}

TEST(UpcycleOptionsTest, WhatDoesNotFitTheSourceIsNamed) {
  const std::vector<ModelSource> dense = one(dense_source());
  EXPECT_EQ(refusal_of(dense, options_of(10, 5, 5)),
            "--granularity: 5 does not divide the dense intermediate_size 24");
  UpcycleOptions options = options_of(8, 2);
  options.layers = "3";
  EXPECT_NE(refusal_of(dense, options).find("--layers: `moe.layers` names layer 3"),
            std::string::npos);
  options.layers = "none";
  EXPECT_NE(refusal_of(dense, options).find("--layers: `moe.layers` picks no layer"),
            std::string::npos);
  options = options_of(8, 2);
  options.optimizer_state = OptimizerState::kCarry;
  EXPECT_NE(refusal_of(dense, options).find("has no moments for \"lm_head.weight\""),
            std::string::npos);
  std::vector<ModelSource> moe = one(dense_source());
  moe[0].config.moe.layers = "all";
  EXPECT_NE(refusal_of(moe, options_of(8, 2)).find("has experts already"), std::string::npos);
}

TEST(UpcycleOptionsTest, SourcesOfDifferentArchitectureAreNamedWithTheFirstDifference) {
  ModelConfig other = dense_model();
  other.rope_theta = 500000;
  std::vector<ModelSource> sources = one(dense_source());
  sources.push_back(dense_source({.branch = "b"}, other));
  EXPECT_EQ(
      refusal_of(sources, options_of(8, 2)),
      "--from: dense (here) and denseb (there) are different models: `model.rope_theta` is 10000 "
      "here, 5.0e+05 there");
  sources[1] = dense_source({.branch = "b", .moments = true});
  UpcycleOptions options = options_of(8, 2);
  options.optimizer_state = OptimizerState::kCarry;
  EXPECT_NE(refusal_of(sources, options).find("several runs"), std::string::npos);
  EXPECT_EQ(refusal_of(sources, options_of(1, 1)),
            "--num-experts: 1 experts make 1 networks, fewer than the 2 --from");
  DatasetMeta bytes, words;
  bytes.tokenizer = "bytes", words.tokenizer = "hf:words.json";
  sources[0].meta = bytes, sources[1].meta = words;
  EXPECT_NE(refusal_of(sources, options_of(8, 2)).find("different tokenizers"), std::string::npos);
}

TEST(UpcycleOptionsTest, WhatChangesTheFunctionIsRemarkedOn) {
  const std::vector<ModelSource> dense = one(dense_source());
  const auto remark = [&](const UpcycleOptions& options) {
    const std::vector<std::string> remarks = upcycle(dense, options).remarks;
    return remarks.size() == 1 ? remarks[0] : std::to_string(remarks.size()) + " remarks";
  };
  EXPECT_EQ(remark(options_of(8, 2)), "0 remarks");
  EXPECT_NE(remark(options_of(8, 1)).find("does not reach the router"), std::string::npos);
  EXPECT_NE(remark(options_of(8, 3, 2)).find("use 4"), std::string::npos);
  UpcycleOptions options = options_of(8, 2);
  options.normalize = false;
  EXPECT_NE(remark(options).find("= 0.25"), std::string::npos);
  options = options_of(8, 2, 2);
  options.scaling = ExpertScaling::kPublished;
  EXPECT_NE(remark(options).find("does not keep the function"), std::string::npos);
}

}  // namespace
}  // namespace switchyard
