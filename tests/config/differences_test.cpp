#include <gtest/gtest.h>

#include "config/load_config.h"

namespace switchyard {
namespace {

using Lines = std::vector<std::string>;

TEST(Differences, NamesEveryKeyThatDiffers) {
  const RunConfig here;
  RunConfig there;
  EXPECT_EQ(differences(here, there), Lines());
  there.model.hidden_size = 128;
  there.model.sliding_window = 64;
  there.moe.layers = "none";
  there.moe.balance = {{"hf", 0.01, "group", "mean"}};
  EXPECT_EQ(differences(here, there), (Lines{"`model.hidden_size` is 256 here, 128 there",
                                             "`model.sliding_window` is null here, 64 there",
                                             "`moe.layers` is all here, none there",
                                             "`moe.balance.type` is switch here, hf there"}));
}

TEST(LoadConfig, TakesWhatIsLeftOutFromAnotherModel) {
  const std::string path = testing::TempDir() + "left_out.yaml";
  FILE* file = fopen(path.c_str(), "w");
  fputs(
      "model: {hidden_size: 64}\nmoe: {z_loss: {coef: 0.5}}\ntrain: {steps: 3}\n"
      "data: {path: data/x}\ncheckpoint: {load_from: there}\n",
      file);
  fclose(file);
  RunConfig base;
  base.model.hidden_size = 64;
  base.model.num_attention_heads = 2;
  base.model.vocab_size = 320;
  base.moe.num_experts = 4;
  base.moe.balance.clear();
  base.train.steps = 99;  // of the other run: not taken
  resolve_autos(base.model);
  const RunConfig config = load_config(path, {"moe.top_k=1"}, 0, base, "there");
  EXPECT_EQ(config.model, base.model);
  EXPECT_EQ(config.moe.num_experts, 4);
  EXPECT_EQ(config.moe.top_k, 1);
  EXPECT_EQ(config.moe.z_loss.coef, 0.5);
  EXPECT_TRUE(config.moe.balance.empty());
  EXPECT_EQ(config.train.steps, 3);
}

}  // namespace
}  // namespace switchyard
