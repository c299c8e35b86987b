#include <gtest/gtest.h>

#include "base/error.h"
#include "base/scratch_folder.h"
#include "hf/sample_configs.h"

namespace switchyard {
namespace {

HfModel sample(Family family) { return parse_hf_config(sample_config(family), "config.json"); }

/// The one obstacle that a change makes, "" for none; fails the test if there are more.
template <typename Change>
std::string obstacle(Family family, Change&& change) {
  HfModel model = sample(family);
  change(model.model, model.moe);
  const std::vector<std::string> found = obstacles(family, model.model, model.moe);
  EXPECT_LE(found.size(), 1) << to_string(family);
  return found.empty() ? "" : found[0];
}

TEST(Obstacles, NoneForWhatWasImported) {
  for (const Family family : kFamilies) {
    const HfModel model = sample(family);
    EXPECT_TRUE(obstacles(family, model.model, model.moe).empty()) << to_string(family);
    EXPECT_EQ(choose_family(family, model.model, model.moe), family);
  }
}

TEST(Obstacles, EachIsNamed) {
  using M = ModelConfig&;
  using X = MoeConfig&;
  EXPECT_EQ(obstacle(Family::kMixtral,
                     [](M, X moe) {
                       moe.shared_experts = {1, 8, false};
                     }),
            "the shared expert: Mixtral has none");
  EXPECT_EQ(obstacle(Family::kMixtral, [](M, X moe) { moe.router.normalize = false; }),
            "weights that do not sum to 1: Mixtral's always do (moe.router.normalize)");
  EXPECT_EQ(obstacle(Family::kMixtral, [](M, X moe) { moe.layers = "1"; }),
            "dense layers: Mixtral has none");
  EXPECT_EQ(obstacle(Family::kMixtral, [](M, X moe) { moe.router.type = "gshard"; }),
            "moe.router.type gshard: Mixtral has none");
  EXPECT_EQ(obstacle(Family::kMixtral, [](M, X moe) { moe.router.type = "recurrent"; }),
            "moe.router.type recurrent: Mixtral has none");
  EXPECT_EQ(obstacle(Family::kMixtral, [](M, X moe) { moe.router.scaling_factor = 2; }),
            "moe.router.scaling_factor: Mixtral has none");
  EXPECT_EQ(obstacle(Family::kMixtral, [](M, X moe) { moe.router.selection_bias = true; }),
            "moe.router.selection_bias: Mixtral has none");
  EXPECT_EQ(obstacle(Family::kMixtral, [](M, X moe) { moe.capacity.eval_factor = 1.0; }),
            "moe.capacity.eval_factor: Mixtral drops no tokens; set it to null");
  EXPECT_EQ(obstacle(Family::kMixtral, [](M, X moe) { moe.layers = "none"; }),
            "no mixture of experts: Mixtral is one");
  EXPECT_EQ(obstacle(Family::kLlama, [](M, X moe) { moe.layers = "last:1"; }),
            "the mixture of experts: Llama is dense");
  EXPECT_EQ(obstacle(Family::kLlama, [](M model, X) { model.qk_norm = "head"; }),
            "model.qk_norm head: Llama's is none");
  EXPECT_EQ(obstacle(Family::kLlama, [](M model, X) { model.sliding_window = 9; }),
            "model.sliding_window: Llama has none");
  EXPECT_EQ(obstacle(Family::kLlama, [](M model, X) { model.ffn = "relu"; }),
            "model.ffn relu: Llama's feed-forward has a gate (swiglu, geglu)");
  EXPECT_EQ(obstacle(Family::kLlama, [](M model, X) { model.attention_bias = true; }),
            "model.attention_bias without attention_output_bias: Llama has both or neither");
  EXPECT_EQ(obstacle(Family::kMistral, [](M model, X) { model.attention_bias = true; }),
            "model.attention_bias: Mistral has none");
  EXPECT_EQ(obstacle(Family::kQwen2, [](M model, X) { model.attention_bias = false; }),
            "no model.attention_bias: Qwen2 always has it");
  EXPECT_EQ(obstacle(Family::kQwen2, [](M model, X) { model.attention_output_bias = true; }),
            "model.attention_output_bias: Qwen2 has none");
  EXPECT_EQ(obstacle(Family::kQwen2Moe, [](M, X moe) { moe.shared_experts.num = 0; }),
            "no shared expert: Qwen2-MoE always has one");
  EXPECT_EQ(obstacle(Family::kQwen2Moe, [](M, X moe) { moe.shared_experts.gated = false; }),
            "no gate at the shared expert: Qwen2-MoE always has one");
  EXPECT_EQ(obstacle(Family::kOlmoe, [](M model, X) { model.head_dim = 8; }),
            "model.head_dim 8: OLMoE's is hidden_size / num_attention_heads = 4");
  EXPECT_EQ(obstacle(Family::kGlm4Moe, [](M, X moe) { moe.layers = "0,2"; }),
            "dense layers after the first mixture of experts: GLM4-MoE's come first");
  EXPECT_EQ(obstacle(Family::kGlm4Moe, [](M, X moe) { moe.shared_experts.intermediate_size = 7; }),
            "a shared expert of width 14: GLM4-MoE's is a multiple of an expert's 6");
  EXPECT_EQ(obstacle(Family::kGlm4Moe, [](M, X moe) { moe.router.score = "softmax"; }),
            "moe.router.score softmax: GLM4-MoE's is sigmoid");
}

TEST(Obstacles, ASwitchRouterDoesNotNormalize) {
  HfModel model = sample(Family::kMixtral);
  model.moe.router.type = "switch";
  model.moe.top_k = 1;
  EXPECT_FALSE(obstacles(Family::kMixtral, model.model, model.moe).empty());
  EXPECT_FALSE(hf_config_json(Family::kQwen3Moe, model.model, model.moe, "float32",
                              nlohmann::json::object())["norm_topk_prob"]);
}

TEST(ChooseFamily, TheFirstThatCanWhenTheImportedCannot) {
  HfModel model = sample(Family::kLlama);
  EXPECT_EQ(choose_family(std::nullopt, model.model, model.moe), Family::kLlama);
  model.model.sliding_window = 9;
  EXPECT_EQ(choose_family(Family::kLlama, model.model, model.moe), Family::kMistral);
  model.moe = sample(Family::kMixtral).moe;
  EXPECT_EQ(choose_family(Family::kMistral, model.model, model.moe), Family::kMixtral);
}

TEST(ChooseFamily, NamesTheNearestWhenNoneCan) {
  HfModel model = sample(Family::kMixtral);
  model.moe.router.normalize = false;
  const std::string message =
      message_of<ConfigError>([&] { choose_family(Family::kMixtral, model.model, model.moe); });
  EXPECT_NE(message.find("mixtral: weights that do not sum to 1"), std::string::npos) << message;
}

}  // namespace
}  // namespace switchyard
