#include <gtest/gtest.h>

#include "hf/sample_configs.h"

namespace switchyard {
namespace {

using nlohmann::json;

json written(const HfModel& model, const json& carried = json::object()) {
  return hf_config_json(model.family, model.model, model.moe, "bfloat16", carried);
}

/// A config says the same after it was read, written and read again.
void expect_round_trip(Family family, const json& changes) {
  const json config = changed(sample_config(family), changes);
  const HfModel once = parse_hf_config(config, "config.json");
  EXPECT_TRUE(obstacles(family, once.model, once.moe).empty()) << config;
  const HfModel twice = parse_hf_config(written(once, config), "written.json");
  EXPECT_EQ(twice.family, once.family);
  EXPECT_EQ(twice.model, once.model) << config;
  EXPECT_EQ(twice.moe, once.moe) << config;
  EXPECT_EQ(twice.max_position_embeddings, once.max_position_embeddings);
  EXPECT_EQ(twice.eos, once.eos);
}

TEST(WriteConfig, EveryFamilyReadsBack) {
  const json llama3 = {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"low_freq_factor", 1.5},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 32}};
  for (const Family family : kFamilies) {
    expect_round_trip(family, json::object());
    expect_round_trip(family, {{"tie_word_embeddings", true}, {"hidden_act", "gelu"}});
    expect_round_trip(family, {{"rope_scaling", llama3}});
    expect_round_trip(family, {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 3.0}}}});
    expect_round_trip(family, {{"num_key_value_heads", 1}, {"initializer_range", 0.1}});
  }
}

TEST(WriteConfig, WhatOneFamilyHasReadsBack) {
  const json used = {{"use_sliding_window", true}, {"sliding_window", 7}, {"max_window_layers", 0}};
  for (const Family family :
       {Family::kLlama, Family::kQwen3, Family::kQwen3Moe, Family::kOlmoe, Family::kGlm4Moe}) {
    expect_round_trip(family, {{"attention_bias", true}});
  }
  expect_round_trip(Family::kQwen2Moe, {{"qkv_bias", false}});
  for (const Family family : {Family::kMistral, Family::kMixtral}) {
    expect_round_trip(family, {{"sliding_window", 7}});
  }
  for (const Family family : {Family::kQwen2, Family::kQwen3, Family::kQwen3Moe}) {
    expect_round_trip(family, used);
  }
  expect_round_trip(Family::kQwen2Moe,
                    changed(used, {{"layer_types", json(3, "sliding_attention")}}));
  expect_round_trip(Family::kQwen2, {{"head_dim", 8}});
  for (const Family family : {Family::kQwen2Moe, Family::kQwen3Moe}) {
    expect_round_trip(family, {{"mlp_only_layers", {0, 2}}, {"norm_topk_prob", true}});
  }
  expect_round_trip(Family::kGlm4Moe, {{"first_k_dense_replace", 2}, {"use_qk_norm", true}});
  expect_round_trip(Family::kGlm4Moe, {{"partial_rotary_factor", 1.0}, {"n_group", 1}});
  expect_round_trip(Family::kMixtral, {{"router_aux_loss_coef", 0.0}});
}

TEST(WriteConfig, SpellsTheKeysThatVersionsDifferIn) {
  const json config = written(parse_hf_config(sample_config(Family::kQwen3Moe), "c"));
  EXPECT_EQ(config["torch_dtype"], "bfloat16");
  EXPECT_EQ(config["dtype"], "bfloat16");
  EXPECT_EQ(config["rope_theta"], 5000.0);
  EXPECT_EQ(config["rope_parameters"], (json{{"rope_type", "default"}, {"rope_theta", 5000.0}}));
  EXPECT_TRUE(config["rope_scaling"].is_null());
  EXPECT_EQ(config["num_experts"], 4);
  EXPECT_EQ(config["architectures"], json::array({"Qwen3MoeForCausalLM"}));
  const json glm = written(parse_hf_config(sample_config(Family::kGlm4Moe), "c"));
  EXPECT_EQ(glm["partial_rotary_factor"], 0.5);
  EXPECT_EQ(glm["rope_parameters"]["partial_rotary_factor"], 0.5);
  EXPECT_EQ(glm["topk_method"], "noaux_tc");
}

TEST(WriteConfig, OnlyKeysWithoutNumbersAreCarried) {
  const HfModel model = parse_hf_config(sample_config(Family::kLlama), "c");
  const json carried = {{"eos_token_id", {5, 6}},
                        {"max_position_embeddings", 99},
                        {"rope_theta", 1.0},
                        {"auto_map", {{"x", "y"}}},
                        {"sliding_window", 3}};
  const json config = written(model, carried);
  EXPECT_EQ(config["eos_token_id"], json({5, 6}));
  EXPECT_EQ(config["max_position_embeddings"], 99);
  EXPECT_EQ(config["rope_theta"], 5000.0);
  EXPECT_FALSE(config.contains("auto_map"));
  EXPECT_FALSE(config.contains("sliding_window"));
  EXPECT_TRUE(written(model)["eos_token_id"].is_null());
}

TEST(WriteConfig, BalanceBecomesTransformersLoss) {
  HfModel model = parse_hf_config(sample_config(Family::kMixtral), "c");
  model.moe.balance = {{.type = "topk", .coef = 0.04}};
  EXPECT_DOUBLE_EQ(written(model)["router_aux_loss_coef"], 0.02);
  model.moe.balance = {{.type = "switch", .coef = 0.04}};
  EXPECT_EQ(written(model)["router_aux_loss_coef"], 0.0);
}

}  // namespace
}  // namespace switchyard
