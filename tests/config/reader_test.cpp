#include "config/reader.h"

#include <gtest/gtest.h>

#include "config_folder.h"

namespace switchyard {
namespace {

struct Wrong {
  std::string yaml;
  std::string message;
};

TEST(Reader, SaysWhatItExpectedAndWhatItGot) {
  const std::vector<Wrong> cases = {
      {"model:\n  hidden_size: 1.5\n",
       "run.yaml:2: `model.hidden_size` must be an integer, got `1.5`"},
      {"model: {hidden_size: yes}\n",
       "run.yaml:1: `model.hidden_size` must be an integer, got `yes`"},
      {"model: {hidden_size: \"256\"}\n",
       "run.yaml:1: `model.hidden_size` must be an integer, got the quoted text \"256\"; write "
       "256"},
      {"model: {hidden_size: 1_024}\n",
       "run.yaml:1: `model.hidden_size` must be an integer, got `1_024`; write 1024"},
      {"train: {steps: 1e3}\n",
       "run.yaml:1: `train.steps` must be an integer, got `1e3`; write 1000"},
      {"train: {steps: 99999999999999999999}\n",
       "run.yaml:1: `train.steps` must be an integer, got `99999999999999999999`"},
      {"train: {steps: null}\n", "run.yaml:1: `train.steps` must be an integer, got null"},
      {"train: {steps: [1]}\n", "run.yaml:1: `train.steps` must be an integer, got a list"},
      {"model: {head_dim: automatic}\n",
       "run.yaml:1: `model.head_dim` must be an integer or auto, got `automatic`"},
      {"model: {head_dim: 0}\n",
       "run.yaml:1: `model.head_dim` must be at least 1 or auto, got `0`"},
      {"optim: {lr: fast}\n", "run.yaml:1: `optim.lr` must be a number, got `fast`"},
      {"optim: {lr: 1_000.5}\n",
       "run.yaml:1: `optim.lr` must be a number, got `1_000.5`; write 1000.5"},
      {"optim: {lr: .nan}\n", "run.yaml:1: `optim.lr` must be a number, got `.nan`"},
      {"optim: {lr: {a: 1}}\n", "run.yaml:1: `optim.lr` must be a number, got a mapping"},
      {"moe: {capacity: {factor: none}}\n",
       "run.yaml:1: `moe.capacity.factor` must be a number or null, got `none`"},
      {"model: {attention_bias: yes}\n",
       "run.yaml:1: `model.attention_bias` must be true or false, got `yes`; write true"},
      {"model: {attention_bias: 0}\n",
       "run.yaml:1: `model.attention_bias` must be true or false, got `0`; write false"},
      {"run: {name: [a]}\n", "run.yaml:1: `run.name` must be text, got a list"},
      {"run: {name: null}\n", "run.yaml:1: `run.name` must be text, got null"},
      {"checkpoint: {load_from: {}}\n",
       "run.yaml:1: `checkpoint.load_from` must be text or null, got a mapping"},
      {"model: 3\n", "run.yaml:1: `model` must be a mapping, got `3`"},
      {"optim: {betas: 0.9}\n", "run.yaml:1: `optim.betas` must be a list, got `0.9`"},
      {"optim: {betas: [0.9,\n  high]}\n",
       "run.yaml:2: `optim.betas[1]` must be a number, got `high`"},
      {"optim: {lr_scale: [1]}\n",
       "run.yaml:1: `optim.lr_scale` must be a mapping of name patterns to numbers, got a list"},
      {"optim: {lr_scale: {\"*.gate.*\": low}}\n",
       "run.yaml:1: `optim.lr_scale.*.gate.*` must be a number, got `low`"},
      {"train: {freeze: model.*}\n", "run.yaml:1: `train.freeze` must be a list, got `model.*`"},
      {"moe: {balance: null}\n",
       "run.yaml:1: `moe.balance` must be a mapping or a list, [] for none, got null"},
      {"moe: {balance: 0.01}\n", "run.yaml:1: `moe.balance` must be a mapping, got `0.01`"},
      {"moe: {balance: [{coef: 1}, 2]}\n",
       "run.yaml:1: `moe.balance[1]` must be a mapping, got `2`"},
      {"data: {path: [[a]]}\n",
       "run.yaml:1: `data.path` must be a folder or a list of {path, weight, name}, got a list"},
      {"moe: {layers: 3}\n",
       "run.yaml:1: `moe.layers` must be all, none, every:N, last:N or a list such as [1, 3], "
       "got `3`"},
      {"moe: {layers: [1, two]}\n",
       "run.yaml:1: `moe.layers` must be a list of layer indices, got `two`"},
      {"moe:\n  balance:\n    - coef: 1\n    - {coeff: 2}\n",
       "run.yaml:4: unknown key `moe.balance[1].coeff`; did you mean `moe.balance.coef`?"},
      {"data: {path: [{path: a, wieght: 2}]}\n",
       "run.yaml:1: unknown key `data.path.wieght`; did you mean `data.path.weight`?"},
  };
  for (const Wrong& wrong : cases) EXPECT_EQ(complaint(wrong.yaml), wrong.message) << wrong.yaml;
}

TEST(Reader, AMistypedKeyIsNotAlsoJudgedByItsDefault) {
  EXPECT_EQ(complaint("model: {hiden_size: 100, num_attention_heads: 10}\n"),
            "run.yaml:1: unknown key `model.hiden_size`; did you mean `model.hidden_size`?");
}

TEST(Reader, TakesAllWaysToWriteSourcesAndLayers) {
  const auto parse = [](const std::string& text) { return parse_config(text, "f"); };
  const std::vector<DataSource> one = {{"a", 1.0, ""}};
  EXPECT_EQ(parse("data: {path: a}").data.path, one);
  EXPECT_EQ(parse("data: {path: [a]}").data.path, one);
  EXPECT_EQ(parse("data: {path: {path: a}}").data.path, one);
  EXPECT_EQ(parse("data: {path: []}").data.path, std::vector<DataSource>{});
  EXPECT_EQ(parse("data: {path: [a, {path: b, weight: 0.5, name: n}]}").data.path,
            (std::vector<DataSource>{{"a", 1.0, ""}, {"b", 0.5, "n"}}));
  EXPECT_EQ(parse("moe: {layers: [3, 1]}").moe.layers, "3,1");
  EXPECT_EQ(parse("moe: {layers: []}").moe.layers, "none");
  EXPECT_EQ(parse("moe: {layers: every:2}").moe.layers, "every:2");
  EXPECT_EQ(parse("moe: {layers: \"1,3\"}").moe.layers, "1,3");
}

TEST(Reader, TakesAutoNullAndEmptyLists) {
  const RunConfig config = parse_config(
      "model: {vocab_size: auto, num_key_value_heads: 2}\n"
      "moe: {capacity: {factor: 1.25, eval_factor: ~}, balance: []}\n"
      "checkpoint: {load_from: runs/a}\ntrain: {threads: auto}\n",
      "f");
  EXPECT_EQ(config.model.vocab_size, kAuto);
  EXPECT_EQ(config.model.num_key_value_heads, 2);
  EXPECT_EQ(config.moe.capacity.factor, 1.25);
  EXPECT_EQ(config.moe.capacity.eval_factor, std::nullopt);
  EXPECT_TRUE(config.moe.balance.empty());
  EXPECT_EQ(config.checkpoint.load_from, "runs/a");
}

TEST(Reader, RemembersWhereEachKeyWasWritten) {
  const Document document = parse_document(
      "moe:\n  balance:\n    - coef: 1\n    - coef: 2\noptim:\n  betas: [1,\n    2]\n", "f",
      Lines::kNumbered);
  const Reading reading = read_config(document.root);
  EXPECT_EQ(to_string(reading.places.at("moe.balance")), "f:2");
  EXPECT_EQ(to_string(reading.places.at("moe.balance[1].coef")), "f:4");
  EXPECT_EQ(to_string(reading.places.at("optim.betas[1]")), "f:7");
  EXPECT_FALSE(reading.places.contains("moe.top_k"));
}

}  // namespace
}  // namespace switchyard
