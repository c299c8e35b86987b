#include <gtest/gtest.h>

#include "config/check.h"
#include "expect_complaints.h"

namespace switchyard {
namespace {

TEST(CheckCombinations, Attention) {
  expect_all({
      {"model:\n  num_attention_heads: 8\n  num_key_value_heads: 3\n", 0,
       "run.yaml:3: `model.num_key_value_heads` 3 does not divide `model.num_attention_heads` 8; "
       "use 1, 2, 4 or 8"},
      {"model: {head_dim: 33}\n", 0,
       "run.yaml:1: `model.head_dim` 33 is odd and RoPE turns pairs of numbers; use 32 or 34"},
      {"model: {hidden_size: 250}\n", 0,
       "run.yaml:1: `model.hidden_size` 250 does not divide into 8 heads "
       "(`model.num_attention_heads`) of an even width; use 240 or 256, or give "
       "`model.head_dim`"},
      {"model: {num_attention_heads: 6}\n", 0,
       "run.yaml:1: `model.hidden_size` 256 does not divide into 6 heads "
       "(`model.num_attention_heads`) of an even width; use 252 or 264, or give "
       "`model.head_dim`"},
      {"model: {hidden_size: 250, head_dim: 32}\n", 0, ""},
  });
}

TEST(CheckCombinations, Experts) {
  expect_all({
      {"moe: {top_k: 9}\n", 0,
       "run.yaml:1: `moe.top_k` 9 is more than `moe.num_experts` 8; use at most 8"},
      {"parallel: {expert: 3}\n", 0,
       "run.yaml:1: `moe.num_experts` 8 cannot be shared out evenly to `parallel.expert` 3 ranks; "
       "use 1, 2, 4 or 8 ranks, or 6 or 9 experts"},
      {"moe: {layers: [1, 7]}\n", 0,
       "run.yaml:1: `moe.layers` names layer 7; layers are 0 to 3 (model.num_hidden_layers)"},
      {"moe: {layers: every:5}\n", 0,
       "run.yaml:1: `moe.layers` every:5 is more than the 4 layers of model.num_hidden_layers; "
       "use at most 4, or none"},
  });
}

TEST(CheckCombinations, World) {
  expect_all({
      {"parallel: {expert: 2}\n", 1,
       "run.yaml:1: `parallel.expert` 2 needs 2 ranks and this run has one; start it with "
       "`mpirun -n 2` (or a multiple), or use 1"},
      {"parallel: {expert: 4}\n", 6,
       "run.yaml:1: `parallel.expert` 4 does not divide the world of 6 ranks; use 1 or 2, or start "
       "4 or 8 ranks\n"
       "(default): `train.global_batch_size` 8 is not a multiple of 24 = 6 ranks * "
       "`train.micro_batch_size` 4; use 24"},
      {"parallel: {expert: 4}\n", 2,
       "run.yaml:1: `parallel.expert` 4 does not divide the world of 2 ranks; use 1 or 2, or start "
       "4 ranks"},
      {"parallel: {expert: 2}\n", 2, ""},
      {"parallel: {expert: 2}\n", 0, ""},
  });
}

TEST(CheckCombinations, Batch) {
  expect_all({
      {"train:\n  global_batch_size: 7\n  micro_batch_size: 5\n", 0,
       "run.yaml:2: `train.global_batch_size` 7 is not a multiple of `train.micro_batch_size` 5; "
       "use 5 or 10, or a micro-batch of 1 or 7"},
      {"train: {global_batch_size: 12, micro_batch_size: 4}\n", 2,
       "run.yaml:1: `train.global_batch_size` 12 is not a multiple of 8 = 2 ranks * "
       "`train.micro_batch_size` 4; use 8 or 16, or a micro-batch of 2 or 3"},
      {"train: {global_batch_size: 6, micro_batch_size: 1}\n", 4,
       "run.yaml:1: `train.global_batch_size` 6 is not a multiple of 4 = 4 ranks * "
       "`train.micro_batch_size` 1; use 4 or 8"},
      {"train: {global_batch_size: 12, micro_batch_size: 4}\n", 3, ""},
      {"moe: {group_sequences: 3}\n", 0,
       "run.yaml:1: `train.micro_batch_size` 4 is not a multiple of `moe.group_sequences` 3, and a "
       "routing group lies inside one micro-batch; use groups of 1, 2 or 4, or a micro-batch of "
       "3 or 6"},
  });
}

TEST(CheckCombinations, Names) {
  expect_all({
      {"run: {name: a/b}\n", 0,
       "run.yaml:1: `run.name` is the name of a folder, without `/`; got `a/b` (run.dir says where "
       "it lies)"},
      {"data: {path: \"\"}\n", 0,
       "run.yaml:1: `data.path` has no folder; give the one that `switchyard prepare` wrote"},
      {"data: {path: [a, {weight: 2}]}\n", 0,
       "run.yaml:1: `data.path[1]` has no folder; give the one that `switchyard prepare` wrote"},
  });
}

TEST(CheckCombinations, ALoadedModelIsJudgedOnceItIsKnown) {
  const ConfigFolder folder;
  folder.write("run.yaml", "checkpoint: {load_from: hf/llama}\nmodel: {num_attention_heads: 12}\n");
  const RunConfig config = load_config(folder / "run.yaml", {}, 0);
  EXPECT_EQ(config.model.head_dim, kAuto);
  EXPECT_EQ(config.model.num_key_value_heads, kAuto);
  EXPECT_EQ(complaint(folder, {"parallel.expert=3"}), "");
  EXPECT_NE(complaint(folder, {"parallel.expert=3", "moe.num_experts=8"}), "");
  EXPECT_EQ(validate(config, 0).size(), 1u);
}

TEST(Validate, ListsEverythingWithoutPlaces) {
  RunConfig config;
  config.model.ffn = "tanh";
  config.parallel.expert = 3;
  config.moe.top_k = 0;
  EXPECT_EQ(validate(config, 4),
            (std::vector<std::string>{
                "`model.ffn` must be one of swiglu, geglu, gelu, relu, got `tanh`",
                "`moe.top_k` must be at least 1, got 0",
                "`moe.num_experts` 8 cannot be shared out evenly to `parallel.expert` 3 ranks; use "
                "1, 2, 4 or 8 ranks, or 6 or 9 experts",
                "`parallel.expert` 3 does not divide the world of 4 ranks; use 1, 2 or 4, or start "
                "3 or 6 ranks",
                "`train.global_batch_size` 8 is not a multiple of 16 = 4 ranks * "
                "`train.micro_batch_size` 4; use 16, or a micro-batch of 1 or 2",
            }));
  const RunConfig defaults;
  EXPECT_TRUE(validate(defaults, 2).empty());
}

}  // namespace
}  // namespace switchyard
