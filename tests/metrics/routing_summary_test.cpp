#include "metrics/routing_summary.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace switchyard {
namespace {

RoutingSummary sample() {
  LayerRouting first;
  first.layer = 1;
  first.load_E = {0.5, 0.5, 0.0};
  first.max_vio = 0.5;
  first.entropy = 1.0;
  first.dead_experts = {2};
  first.router_mean = 0.25;
  first.router_max = 0.75;
  first.expert_similarity = 1.0;
  first.matrices = {{"up_proj", 0.5, 0.25, std::nullopt, -0.125}};
  first.output_norm_E = {1, 2, 3};
  first.score_norm_correlation = -0.5;
  first.correlated_tokens = 7;
  LayerRouting second;
  second.layer = 3;
  second.load_E = {0.25, 0.25, 0.5};
  second.max_vio = 0.25;
  second.dropped = 0.5;
  RoutingSummary summary;
  summary.checkpoint = "runs/one/checkpoints/step-00000020";
  summary.data = "data/one";
  summary.split = "val";
  summary.step = 20;
  summary.sequence_length = 32;
  summary.sequences = 40;
  summary.tokens = 1280;
  summary.sampled_tokens = 12;
  summary.layers = {first, second};
  return summary;
}

TEST(RoutingSummaryTest, JsonHasEveryNumberAndNullForWhatThereIsNot) {
  const nlohmann::json json = routing_json(sample());
  EXPECT_EQ(json["tokens"], 1280);
  EXPECT_EQ(json["dead_experts"], 1);
  const nlohmann::json& first = json["layers"][0];
  EXPECT_EQ(first["layer"], 1);
  EXPECT_EQ(first["load"], (std::vector<double>{0.5, 0.5, 0.0}));
  EXPECT_EQ(first["dead_experts"], (std::vector<int64_t>{2}));
  EXPECT_EQ(first["router_similarity"]["max"], 0.75);
  EXPECT_EQ(first["matrix_similarity"]["up_proj"]["experts"], 0.5);
  EXPECT_TRUE(first["matrix_similarity"]["up_proj"]["between_experts"].is_null());
  EXPECT_EQ(first["matrix_similarity"]["up_proj"]["within_experts"], -0.125);
  EXPECT_EQ(first["output_norm"][2], 3.0);
  EXPECT_EQ(first["correlated_tokens"], 7);
  const nlohmann::json& second = json["layers"][1];
  for (const char* key : {"entropy", "expert_similarity", "score_norm_correlation"}) {
    EXPECT_TRUE(second[key].is_null()) << key;
  }
  EXPECT_TRUE(second["router_similarity"]["mean"].is_null());
}

TEST(RoutingSummaryTest, TheMeanIsOfTheLayersThatHaveTheNumber) {
  const nlohmann::json mean = routing_json(sample())["mean"];
  EXPECT_EQ(mean["max_vio"], 0.375);
  EXPECT_EQ(mean["dropped"], 0.25);
  EXPECT_EQ(mean["entropy"], 1.0);
  EXPECT_EQ(mean["score_norm_correlation"], -0.5);
}

TEST(RoutingSummaryTest, TextIsATableOfLayersAndTheirLoads) {
  const std::string text = routing_text(sample());
  for (const char* words :
       {"step-00000020, step 20\n", "val: 1,280 tokens in 40 sequences of 32; all experts on 12",
        "    1       0.500       1.000      0.0000           1      0.2500      0.7500      1.0000"
        "      -0.500\n",
        "    3       0.250           -      0.5000           0           -",
        "    1  up_proj        0.5000        0.2500                -         -0.1250\n",
        "    1  50.0  50.0   0.0\n       dead: 2\n", "    3  25.0  25.0  50.0\n"}) {
    EXPECT_NE(text.find(words), std::string::npos) << words << "\n" << text;
  }
}

TEST(RoutingSummaryTest, ManyExpertsAreSummed) {
  RoutingSummary summary = sample();
  summary.layers.resize(1);
  summary.layers[0].load_E.assign(64, 0.0);
  summary.layers[0].load_E[5] = 0.75;
  summary.layers[0].load_E[6] = 0.25;
  const std::string text = routing_text(summary);
  EXPECT_NE(text.find("least   0.0  median   0.0  most  75.0"), std::string::npos) << text;
}

}  // namespace
}  // namespace switchyard
