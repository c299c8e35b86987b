#include <gtest/gtest.h>

#include "base/error.h"
#include "base/scratch_folder.h"
#include "config/load_config.h"
#include "hf/sample_configs.h"

namespace switchyard {
namespace {

using nlohmann::json;

HfModel parsed(Family family, const json& changes = json::object()) {
  return parse_hf_config(changed(sample_config(family), changes), "config.json");
}

std::string refusal(Family family, const json& changes) {
  return message_of<DataError>([&] { parsed(family, changes); });
}

MoeConfig dense_moe() {
  MoeConfig moe;
  moe.layers = "none";
  return moe;
}

ModelConfig sample_model() {
  ModelConfig model;
  model.vocab_size = 23;
  model.hidden_size = 16;
  model.intermediate_size = 12;
  model.num_hidden_layers = 3;
  model.num_attention_heads = 4;
  model.num_key_value_heads = 2;
  model.head_dim = 4;
  model.init_std = 0.03;
  model.rope_theta = 5000.0;
  return model;
}

MoeConfig sample_moe() {
  MoeConfig moe;
  moe.num_experts = 4;
  moe.expert_intermediate_size = 6;
  moe.z_loss.coef = 0.0;
  moe.balance = {{.type = "hf", .coef = 0.001}};
  return moe;
}

TEST(ParseConfig, Llama) {
  const HfModel llama = parsed(Family::kLlama);
  EXPECT_EQ(llama.family, Family::kLlama);
  EXPECT_EQ(llama.model, sample_model());
  EXPECT_EQ(llama.moe, dense_moe());
  EXPECT_EQ(llama.max_position_embeddings, 64);
  EXPECT_EQ(llama.eos, 2);
}

TEST(ParseConfig, DenseFamiliesDifferInBiasesAndNorms) {
  EXPECT_EQ(parsed(Family::kMistral).model, sample_model());
  ModelConfig qwen2 = sample_model();
  qwen2.attention_bias = true;
  EXPECT_EQ(parsed(Family::kQwen2).model, qwen2);
  ModelConfig qwen3 = sample_model();
  qwen3.qk_norm = "head";
  EXPECT_EQ(parsed(Family::kQwen3).model, qwen3);
}

TEST(ParseConfig, AttentionBiasOfTheOutputProjectionIsTheFamilys) {
  for (const Family family :
       {Family::kLlama, Family::kQwen3, Family::kQwen3Moe, Family::kOlmoe, Family::kGlm4Moe}) {
    const HfModel model = parsed(family, {{"attention_bias", true}});
    EXPECT_TRUE(model.model.attention_bias) << to_string(family);
    EXPECT_EQ(model.model.attention_output_bias, family != Family::kGlm4Moe) << to_string(family);
  }
  EXPECT_FALSE(parsed(Family::kQwen2Moe, {{"qkv_bias", false}}).model.attention_bias);
  EXPECT_FALSE(parsed(Family::kQwen2Moe).model.attention_output_bias);
}

TEST(ParseConfig, Mixtral) {
  MoeConfig moe = sample_moe();
  moe.expert_intermediate_size = 12;
  moe.balance[0].coef = 0.02;
  const HfModel mixtral = parsed(Family::kMixtral);
  EXPECT_EQ(mixtral.model, sample_model());
  EXPECT_EQ(mixtral.moe, moe);
}

TEST(ParseConfig, Qwen2Moe) {
  MoeConfig moe = sample_moe();
  moe.router.normalize = false;
  moe.shared_experts = {1, 10, true};
  EXPECT_EQ(parsed(Family::kQwen2Moe).moe, moe);
}

TEST(ParseConfig, Qwen3Moe) {
  MoeConfig moe = sample_moe();
  moe.layers = "0,2";
  EXPECT_EQ(parsed(Family::kQwen3Moe).moe, moe);
  EXPECT_EQ(parsed(Family::kQwen3Moe).model.qk_norm, "head");
}

TEST(ParseConfig, Olmoe) {
  MoeConfig moe = sample_moe();
  moe.router.normalize = false;
  moe.expert_intermediate_size = 12;
  moe.balance[0].coef = 0.01;
  EXPECT_EQ(parsed(Family::kOlmoe).moe, moe);
  EXPECT_EQ(parsed(Family::kOlmoe).model.qk_norm, "full");
}

TEST(ParseConfig, Glm4Moe) {
  MoeConfig moe = sample_moe();
  moe.layers = "1,2";
  moe.balance.clear();
  moe.router.score = "sigmoid";
  moe.router.selection_bias = true;
  moe.router.scaling_factor = 1.5;
  moe.router.n_group = 2;
  moe.shared_experts = {2, 6, false};
  ModelConfig model = sample_model();
  model.partial_rotary_factor = 0.5;
  const HfModel glm = parsed(Family::kGlm4Moe);
  EXPECT_EQ(glm.moe, moe);
  EXPECT_EQ(glm.model, model);
  EXPECT_EQ(parsed(Family::kGlm4Moe, {{"use_qk_norm", true}}).model.qk_norm, "head");
}

TEST(ParseConfig, MoeLayersFollowStepAndList) {
  EXPECT_EQ(parsed(Family::kQwen3Moe, {{"decoder_sparse_step", 2}}).moe.layers, "none");
  EXPECT_EQ(parsed(Family::kQwen2Moe, {{"decoder_sparse_step", 2}}).moe.layers, "1");
  EXPECT_EQ(parsed(Family::kQwen2Moe, {{"mlp_only_layers", nullptr}}).moe.layers, "all");
  EXPECT_EQ(parsed(Family::kQwen2Moe, {{"num_experts", 0}}).moe.layers, "none");
  EXPECT_EQ(parsed(Family::kGlm4Moe, {{"first_k_dense_replace", 0}}).moe.layers, "all");
}

TEST(ParseConfig, ABalanceCoefficientOfZeroIsNoLoss) {
  EXPECT_TRUE(parsed(Family::kMixtral, {{"router_aux_loss_coef", 0.0}}).moe.balance.empty());
}

TEST(ParseConfig, ExpertsHaveSeveralNames) {
  json config = sample_config(Family::kQwen3Moe);
  config.erase("num_experts");
  config["num_local_experts"] = 8;  // as transformers 5 writes it
  EXPECT_EQ(parse_hf_config(config, "config.json").moe.num_experts, 8);
  config["num_experts"] = 4;
  EXPECT_NE(message_of<DataError>([&] { parse_hf_config(config, "c"); }).find("num_local_experts"),
            std::string::npos);
}

TEST(ParseConfig, KeysThatAreLeftOutHaveTheFamilysDefaults) {
  const auto bare = [](Family family) {
    json config = {{"model_type", to_string(family)}};
    if (family == Family::kGlm4Moe) config["head_dim"] = 128;
    return parse_hf_config(config, "config.json");
  };
  EXPECT_EQ(bare(Family::kMistral).model.sliding_window, 4096);
  EXPECT_EQ(bare(Family::kMixtral).model.sliding_window, std::nullopt);
  EXPECT_EQ(bare(Family::kMixtral).model.rope_theta, 1e6);
  EXPECT_EQ(bare(Family::kMistral).model.rope_theta, 1e4);
  EXPECT_EQ(bare(Family::kLlama).model.rms_norm_eps, 1e-6);
  EXPECT_EQ(bare(Family::kOlmoe).model.rms_norm_eps, 1e-5);
  EXPECT_EQ(bare(Family::kQwen3).model.head_dim, 128);
  EXPECT_EQ(bare(Family::kGlm4Moe).model.partial_rotary_factor, 0.5);
  EXPECT_FALSE(bare(Family::kQwen3Moe).moe.router.normalize);
  EXPECT_TRUE(bare(Family::kGlm4Moe).moe.router.normalize);
  EXPECT_TRUE(bare(Family::kQwen2Moe).model.attention_bias);
  EXPECT_EQ(bare(Family::kQwen2Moe).moe.num_experts, 60);
}

TEST(ParseConfig, NullHeadsAreDerived) {
  const ModelConfig model =
      parsed(Family::kLlama, {{"num_key_value_heads", nullptr}, {"head_dim", nullptr}}).model;
  EXPECT_EQ(model.num_key_value_heads, 4);
  EXPECT_EQ(model.head_dim, 4);
}

TEST(ParseConfig, RotaryKeysOfBothVersions) {
  RopeScalingConfig llama3{"llama3", 8.0, 1.0, 4.0, 32};
  const json scaling = {{"rope_type", "llama3"},
                        {"factor", 8.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 32}};
  EXPECT_EQ(parsed(Family::kLlama, {{"rope_scaling", scaling}}).model.rope_scaling, llama3);
  json newer = sample_config(Family::kLlama);
  newer.erase("rope_theta");
  newer["rope_parameters"] = changed(scaling, {{"rope_theta", 777.0}});
  const ModelConfig model = parse_hf_config(newer, "config.json").model;
  EXPECT_EQ(model.rope_scaling, llama3);
  EXPECT_EQ(model.rope_theta, 777.0);
  EXPECT_EQ(parsed(Family::kQwen2, {{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}})
                .model.rope_scaling,
            (RopeScalingConfig{"linear", 2.0}));
}

TEST(ParseConfig, RotaryKeysThatDisagreeAreRefused) {
  const json inside = {{"rope_type", "default"}, {"rope_theta", 1e6}};
  EXPECT_NE(
      refusal(Family::kQwen3, {{"rope_parameters", inside}}).find("rope_parameters.rope_theta"),
      std::string::npos);
  EXPECT_NE(refusal(Family::kLlama, {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 2.0}}},
                                     {"rope_parameters", {{"rope_type", "default"}}}})
                .find("rope_scaling"),
            std::string::npos);
  for (const json& scaling :
       {json{{"rope_type", "default"}, {"type", "linear"}, {"factor", 2.0}}, json{{"factor", 2.0}},
        json{{"rope_type", "linear"}}, json{{"rope_type", "linear"}, {"factor", 0.5}}}) {
    EXPECT_EQ(
        refusal(Family::kLlama, {{"rope_scaling", scaling}}).find("config.json: \"rope_scaling."),
        0);
  }
}

TEST(ParseConfig, Windows) {
  EXPECT_EQ(parsed(Family::kMistral, {{"sliding_window", 7}}).model.sliding_window, 7);
  const json used = {{"use_sliding_window", true}, {"sliding_window", 7}};
  EXPECT_EQ(parsed(Family::kQwen3Moe, used).model.sliding_window, 7);
  EXPECT_EQ(parsed(Family::kQwen2, used).model.sliding_window, std::nullopt);  // from layer 3 on
  const json all = changed(used, {{"max_window_layers", 0}});
  EXPECT_EQ(parsed(Family::kQwen2, all).model.sliding_window, 7);
  const json types(3, "sliding_attention");
  EXPECT_EQ(parsed(Family::kQwen2Moe, changed(used, {{"layer_types", types}})).model.sliding_window,
            7);
  EXPECT_EQ(parsed(Family::kQwen2, {{"sliding_window", 7}}).model.sliding_window, std::nullopt);
}

TEST(ParseConfig, TheFirstEosInsideTheVocabularyCounts) {
  EXPECT_EQ(parsed(Family::kLlama, {{"eos_token_id", {5, 6}}}).eos, 5);
  EXPECT_EQ(parsed(Family::kLlama, {{"eos_token_id", nullptr}}).eos, 0);
  EXPECT_EQ(parsed(Family::kOlmoe, {{"eos_token_id", 50279}}).eos, 0);
}

TEST(ParseConfig, HarmlessKeysAreLetBe) {
  const json harmless = {{"_name_or_path", "x"},         {"transformers_version", "4.1"},
                         {"pretraining_tp", 2},          {"unknown", {1, 2}},
                         {"output_router_logits", true}, {"use_cache", "?"}};
  for (const Family family : kFamilies) {
    EXPECT_EQ(parsed(family, harmless).model, parsed(family).model) << to_string(family);
  }
}

/// Every key that changes the numbers to what Switchyard does not have.
TEST(ParseConfig, WhatCannotBeHonouredIsRefusedByName) {
  const json in_every_family[] = {
      {{"hidden_act", "relu2"}},
      {{"hidden_act", "gelu_pytorch_tanh"}},
      {{"quantization_config", {{"bits", 4}}}},
      {{"mlp_bias", true}},
      {{"clip_qkv", 8.0}},
      {{"attention_dropout", 0.1}},
      {{"router_jitter_noise", 0.1}},
      {{"is_causal", false}},
      {{"head_dim", 3}},
      {{"num_key_value_heads", 3}},
      {{"layer_types", {"full_attention", "sliding_attention", "full_attention"}}},
      {{"layer_types", {"chunked_attention", "chunked_attention", "chunked_attention"}}},
      {{"layer_types", {"full_attention"}}}};
  for (const Family family : kFamilies) {
    for (const json& change : in_every_family) {
      const std::string& key = change.begin().key();
      const std::string message = refusal(family, change);
      EXPECT_EQ(message.find("config.json: \"" + key + "\" is "), 0) << message;
    }
    for (const char* type : {"dynamic", "yarn", "longrope", "proportional", "mrope"}) {
      const std::string message = refusal(family, {{"rope_scaling", {{"rope_type", type}}}});
      EXPECT_EQ(message.find("config.json: \"rope_scaling.rope_type\" is "), 0) << message;
    }
    const std::string nested =
        refusal(family, {{"rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}}});
    EXPECT_EQ(nested.find("config.json: \"rope_parameters.full_attention\""), 0) << nested;
  }
}

TEST(ParseConfig, WhatOneFamilyDoesNotHaveIsRefusedByName) {
  const json used = {{"use_sliding_window", true}, {"sliding_window", 7}};
  const struct {
    Family family;
    json change;
    const char* key;
  } cases[] = {
      {Family::kLlama, {{"sliding_window", 7}}, "sliding_window"},
      {Family::kLlama, {{"partial_rotary_factor", 0.5}}, "partial_rotary_factor"},
      {Family::kMistral, {{"attention_bias", true}}, "attention_bias"},
      {Family::kMistral, {{"layer_types", json(3, "sliding_attention")}}, "layer_types"},
      {Family::kMixtral, {{"attention_bias", true}}, "attention_bias"},
      {Family::kMixtral, {{"num_experts_per_tok", 5}}, "num_experts_per_tok"},
      {Family::kMixtral, {{"num_local_experts", 0}}, "num_local_experts"},
      {Family::kMixtral, {{"router_aux_loss_coef", -0.5}}, "router_aux_loss_coef"},
      {Family::kQwen2, changed(used, {{"max_window_layers", 1}}), "max_window_layers"},
      {Family::kQwen3, changed(used, {{"max_window_layers", 1}}), "max_window_layers"},
      {Family::kQwen2Moe, used, "use_sliding_window"},
      {Family::kQwen2Moe, {{"decoder_sparse_step", 0}}, "decoder_sparse_step"},
      {Family::kQwen3Moe, {{"mlp_only_layers", "0"}}, "mlp_only_layers"},
      {Family::kOlmoe, {{"head_dim", 8}}, "head_dim"},
      {Family::kOlmoe, {{"sliding_window", 7}}, "sliding_window"},
      {Family::kGlm4Moe, {{"scoring_func", "softmax"}}, "scoring_func"},
      {Family::kGlm4Moe, {{"topk_method", "greedy"}}, "topk_method"},
      {Family::kGlm4Moe, {{"n_shared_experts", 0}}, "n_shared_experts"},
      {Family::kGlm4Moe, {{"n_group", 3}}, "n_group"},
      {Family::kGlm4Moe, {{"n_group", 4}}, "n_group"},
      {Family::kGlm4Moe, {{"topk_group", 3}}, "topk_group"},
      {Family::kGlm4Moe, {{"num_experts_per_tok", 3}}, "topk_group"},
      {Family::kGlm4Moe, {{"partial_rotary_factor", 0.75}}, "partial_rotary_factor"},
  };
  for (const auto& [family, change, key] : cases) {
    const std::string message = refusal(family, change);
    EXPECT_EQ(message.find(std::string("config.json: \"") + key + "\" is "), 0)
        << to_string(family) << ": " << message;
  }
}

/// Numbers of any size and values of any type are refused by name, nothing else happens.
TEST(ParseConfig, NonsenseIsRefused) {
  const json nonsense[] = {-1,   1e300, uint64_t{1} << 63, "16", json::array({16}), json::object(),
                           true, 1.5};
  const char* counts[] = {
      "vocab_size",          "hidden_size",         "intermediate_size", "num_hidden_layers",
      "num_attention_heads", "num_key_value_heads", "head_dim",          "max_position_embeddings"};
  for (const Family family : kFamilies) {
    for (const char* key : counts) {
      for (const json& value : nonsense) {
        EXPECT_NE(refusal(family, {{key, value}}).find(key), std::string::npos) << value;
      }
    }
    for (const char* key : {"rms_norm_eps", "rope_theta", "initializer_range"}) {
      for (const json& value : {json(-1.0), json("x"), json(true), json::array()}) {
        EXPECT_NE(refusal(family, {{key, value}}).find(key), std::string::npos) << value;
      }
    }
    for (const char* key : {"tie_word_embeddings", "mlp_bias", "use_sliding_window"}) {
      EXPECT_NE(refusal(family, {{key, "yes"}}).find(key), std::string::npos);
    }
  }
  EXPECT_THROW(parse_hf_config(json::array(), "config.json"), DataError);
}

/// Any key with any value is refused with a DataError, or makes a config that can be run.
TEST(ParseConfig, WhateverIsReadIsAValidConfig) {
  const json values[] = {0,
                         -1,
                         1,
                         2,
                         3,
                         6,
                         1'000'000'000,
                         int64_t{1} << 40,
                         0.5,
                         1e9,
                         nullptr,
                         true,
                         "x",
                         "gelu",
                         json::array(),
                         json::object(),
                         {0, 1},
                         {{"rope_type", "linear"}, {"factor", 0.5}}};
  int read = 0, refused = 0;
  for (const Family family : kFamilies) {
    json config = sample_config(family);
    for (const char* key : {"rope_scaling", "rope_parameters", "layer_types", "sliding_window"}) {
      config.emplace(key, nullptr);
    }
    for (const auto& [key, value] : config.items()) {
      for (const json& other : values) {
        RunConfig run;
        run.data.path = {{.path = "data", .name = ""}};
        try {
          const HfModel model = parse_hf_config(changed(config, {{key, other}}), "config.json");
          run.model = model.model;
          run.moe = model.moe;
          ++read;
        } catch (const DataError&) {
          ++refused;
          continue;
        }
        for (const std::string& error : validate(run, /*world_size=*/1)) {
          ADD_FAILURE() << to_string(family) << ": " << key << " " << other << ": " << error;
        }
      }
    }
  }
  EXPECT_GT(read, 500);
  EXPECT_GT(refused, 500);
}

TEST(ParseConfig, AModelTooLargeToListIsRefused) {
  const json huge = {
      {"num_hidden_layers", 90000}, {"num_experts", 60000}, {"mlp_only_layers", json::array()}};
  EXPECT_NE(refusal(Family::kQwen3Moe, huge).find("num_experts"), std::string::npos);
}

TEST(ParseConfig, OtherFamiliesAreNamed) {
  const std::string message = refusal(Family::kLlama, {{"model_type", "gpt2"}});
  EXPECT_NE(message.find("\"model_type\" is \"gpt2\""), std::string::npos) << message;
  EXPECT_NE(message.find("llama, mistral, qwen2"), std::string::npos) << message;
}

}  // namespace
}  // namespace switchyard
