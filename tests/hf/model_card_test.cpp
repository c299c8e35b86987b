#include "hf/model_card.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

std::string card(const MoeConfig& moe) {
  ModelConfig model;
  model.vocab_size = 1000;
  model.num_key_value_heads = 8;
  model.head_dim = 32;
  return model_card("mine", {{"architectures", {"MixtralForCausalLM"}}, {"dtype", "bfloat16"}},
                    model, moe, "By hand.\n");
}

bool says(const std::string& text, const std::string& words) {
  return text.find(words) != std::string::npos;
}

TEST(ModelCardTest, SaysWhatAMixtureIs) {
  MoeConfig moe;
  moe.layers = "1,3";
  moe.shared_experts.num = 1;
  const std::string text = card(moe);
  EXPECT_EQ(text.find("---\nlibrary_name: transformers\n"), 0u);
  for (const char* words :
       {"- mixture-of-experts\n---\n\n# mine\n", "`MixtralForCausalLM`",
        "| MoE layers | 2 of 4 |\n| experts | 8 per layer, 2 per token |\n| shared experts | 1 |\n",
        "| vocabulary | 1,000 |", "| dtype | bfloat16 |", "from_pretrained(\"mine\")"}) {
    EXPECT_TRUE(says(text, words)) << words << "\n" << text;
  }
  EXPECT_TRUE(text.ends_with("## How it was made\n\nBy hand.\n"));
}

TEST(ModelCardTest, ADenseModelHasNoExperts) {
  MoeConfig moe;
  moe.layers = "none";
  const std::string text = card(moe);
  EXPECT_FALSE(says(text, "xperts")) << text;
  EXPECT_TRUE(says(text, "| layers | 4 |\n"));
}

}  // namespace
}  // namespace switchyard
