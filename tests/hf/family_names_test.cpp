#include <gtest/gtest.h>

#include <set>

#include "hf/sample_configs.h"
#include "model/model_tensors.h"

namespace switchyard {
namespace {

TEST(FamilyNames, WordsAreABijection) {
  for (const Family family : kFamilies) EXPECT_EQ(parse_family(to_string(family)), family);
  EXPECT_EQ(parse_family("gpt2"), std::nullopt);
  EXPECT_EQ(family_words().size(), std::size(kFamilies));
}

/// Every tensor of a model has a name of its own on disk that leads back.
TEST(FamilyNames, NamesOfAWholeModelAreABijection) {
  for (const Family family : kFamilies) {
    nlohmann::json config = sample_config(family);
    if (family != Family::kMistral && family != Family::kMixtral) config["attention_bias"] = true;
    if (family == Family::kGlm4Moe) config["use_qk_norm"] = true;
    const HfModel model = parse_hf_config(config, "config.json");
    std::set<std::string> names;
    for (const ModelTensor& tensor : model_tensors(model.model, model.moe)) {
      const auto name = hf_name(family, tensor.name);
      ASSERT_TRUE(name) << tensor.name;
      EXPECT_TRUE(names.insert(*name).second) << *name;
      EXPECT_EQ(native_name(family, *name), tensor.name);
    }
    EXPECT_GT(names.size(), 20);
  }
}

TEST(FamilyNames, AsTransformersStoresThem) {
  const std::string layer = "model.layers.12.";
  EXPECT_EQ(hf_name(Family::kMixtral, layer + "mlp.gate.weight"),
            layer + "block_sparse_moe.gate.weight");
  EXPECT_EQ(hf_name(Family::kMixtral, layer + "mlp.experts.7.gate_proj.weight"),
            layer + "block_sparse_moe.experts.7.w1.weight");
  EXPECT_EQ(hf_name(Family::kMixtral, layer + "mlp.experts.7.down_proj.weight"),
            layer + "block_sparse_moe.experts.7.w2.weight");
  EXPECT_EQ(hf_name(Family::kMixtral, layer + "mlp.experts.7.up_proj.weight"),
            layer + "block_sparse_moe.experts.7.w3.weight");
  EXPECT_EQ(hf_name(Family::kGlm4Moe, layer + "mlp.shared_expert.up_proj.weight"),
            layer + "mlp.shared_experts.up_proj.weight");
  EXPECT_EQ(hf_name(Family::kGlm4Moe, layer + "mlp.gate.e_score_correction_bias"),
            layer + "mlp.gate.e_score_correction_bias");
  EXPECT_EQ(hf_name(Family::kQwen2Moe, layer + "mlp.shared_expert_gate.weight"),
            layer + "mlp.shared_expert_gate.weight");
  EXPECT_EQ(hf_name(Family::kQwen3Moe, layer + "mlp.experts.0.up_proj.weight"),
            layer + "mlp.experts.0.up_proj.weight");
}

TEST(FamilyNames, WhatAFamilyHasNoPlaceForHasNoName) {
  for (const char* name :
       {"model.embed_tokens.weight.exp_avg", "model.layers.0.mlp.gate.weight.master",
        "router_counts.all", "model.layers.0.mlp.shared_expert.up_proj.weight",
        "model.layers.0.mlp.up_proj.weight", "model.layers.0.self_attn.q_norm.weight",
        "model.layers.00.mlp.gate.weight", "model.layers..mlp.gate.weight",
        "model.layers.0.mlp.experts.01.up_proj.weight",
        "model.layers.0.mlp.experts..up_proj.weight",
        "model.layers.0.mlp.experts.1x.up_proj.weight", "model.layers.0", "model.layers.", ""}) {
    EXPECT_EQ(hf_name(Family::kMixtral, name), std::nullopt) << name;
  }
  for (const char* name : {"model.layers.0.self_attn.rotary_emb.inv_freq",
                           "model.layers.0.mlp.experts.1.up_proj.weight",
                           "model.layers.0.block_sparse_moe.experts.1.w4.weight"}) {
    EXPECT_EQ(native_name(Family::kMixtral, name), std::nullopt) << name;
  }
  EXPECT_EQ(native_name(Family::kLlama, "model.layers.0.mlp.gate.weight"), std::nullopt);
}

}  // namespace
}  // namespace switchyard
