#include "config/sources.h"

#include <gtest/gtest.h>

#include "config_folder.h"

namespace switchyard {
namespace {

TEST(Sources, LaterWins) {
  const ConfigFolder folder;
  folder.write("common/root.yaml", "run: {name: root, seed: 1}\nmodel: {ffn: gelu}\n");
  folder.write("common/base.yaml", "extends: root.yaml\nrun: {name: base, dir: elsewhere}\n");
  folder.write("run.yaml", "extends: common/base.yaml\nrun: {name: mine}\n");
  const RunConfig config =
      load_config(folder / "run.yaml", {"run.seed=7", "model.ffn=relu", "model.ffn=geglu"}, 0);
  EXPECT_EQ(config.run.name, "mine");
  EXPECT_EQ(config.run.dir, "elsewhere");
  EXPECT_EQ(config.run.seed, 7);
  EXPECT_EQ(config.model.ffn, "geglu");
}

TEST(Sources, ListsReplaceAndEmptySectionsChangeNothing) {
  const ConfigFolder folder;
  folder.write("base.yaml", "optim: {betas: [0.8, 0.9]}\nmoe: {balance: [{coef: 1}, {coef: 2}]}\n");
  folder.write("run.yaml", "extends: base.yaml\noptim:\nmoe: {balance: [{type: hf}]}\n");
  const RunConfig config = load_config(folder / "run.yaml", {}, 0);
  EXPECT_EQ(config.optim.betas, (std::vector<double>{0.8, 0.9}));
  ASSERT_EQ(config.moe.balance.size(), 1u);
  EXPECT_EQ(config.moe.balance[0].type, "hf");
  EXPECT_EQ(config.moe.balance[0].coef, 0.01);
}

TEST(Sources, MessagesNameTheFileInWhichAValueStands) {
  const ConfigFolder folder;
  folder.write("base.yaml", "run:\n  seed: -1\nparallel: {expert: 3}\n");
  folder.write("run.yaml", "extends: base.yaml\nmodel: {ffn: swish}\n");
  EXPECT_EQ(complaint(folder, {"moe.top_k=0"}),
            "base.yaml:2: `run.seed` must be at least 0, got -1\n"
            "base.yaml:3: `moe.num_experts` 8 cannot be shared out evenly to `parallel.expert` 3 "
            "ranks; use 1, 2, 4 or 8 ranks, or 6 or 9 experts\n"
            "run.yaml:2: `model.ffn` must be one of swiglu, geglu, gelu, relu, got `swish`\n"
            "--set moe.top_k=0: `moe.top_k` must be at least 1, got 0");
}

TEST(Sources, MissingFilesAreDataErrors) {
  const ConfigFolder folder;
  EXPECT_THROW(load_config(folder / "run.yaml", {}, 0), DataError);
  EXPECT_EQ(complaint(folder), "cannot open run.yaml: No such file or directory");
  folder.write("run.yaml", "run: {seed: 1}\nextends: nowhere.yaml\n");
  EXPECT_THROW(load_config(folder / "run.yaml", {}, 0), DataError);
  EXPECT_EQ(complaint(folder),
            "run.yaml:2: `extends`: cannot open nowhere.yaml: No such file or directory");
}

TEST(Sources, ExtendsMayNotGoInACircle) {
  const ConfigFolder folder;
  folder.write("run.yaml", "extends: a.yaml\n");
  folder.write("a.yaml", "extends: b.yaml\n");
  folder.write("b.yaml", "extends: a.yaml\n");
  EXPECT_EQ(complaint(folder),
            "b.yaml:1: `extends` goes in a circle: run.yaml -> a.yaml -> b.yaml -> a.yaml; remove "
            "one of them");
}

TEST(Sources, ExtendsIsOneFileName) {
  EXPECT_EQ(complaint("extends: [a.yaml, b.yaml]\n"),
            "run.yaml:1: `extends` must be the name of one file, got a list");
  EXPECT_EQ(complaint("{}\n", {"extends=base.yaml"}),
            "--set extends=base.yaml: `extends` works in files only, not in a --set");
}

TEST(Sources, SetsAreKeyAndValue) {
  EXPECT_EQ(complaint("{}", {"train.steps"}),
            "--set train.steps: must be key.path=value, such as train.steps=10");
  EXPECT_EQ(complaint("{}", {"train..steps=1"}),
            "--set train..steps=1: must be key.path=value, such as train.steps=10");
  EXPECT_EQ(complaint("{}", {"train={steps: 1"}),
            "--set train={steps: 1: not valid YAML: end of map flow not found");
  EXPECT_EQ(complaint("{}", {"train.step=1"}),
            "--set train.step=1: unknown key `train.step`; did you mean `train.steps`?");
}

TEST(Sources, SetsTakeYaml) {
  const ConfigFolder folder;
  folder.write("run.yaml", "moe: {balance: {coef: 0.5}}\n");
  const RunConfig config = load_config(
      folder / "run.yaml",
      {"optim.betas=[0.5, 0.6]", "moe.capacity.factor=null", "moe.balance.type=hf",
       "optim.lr_scale={\"*.gate.*\": 0.1}", "data.path=data/x", "train={steps: 3, freeze: [a]}"},
      0);
  EXPECT_EQ(config.optim.betas, (std::vector<double>{0.5, 0.6}));
  EXPECT_EQ(config.moe.balance[0].type, "hf");
  EXPECT_EQ(config.moe.balance[0].coef, 0.5);
  EXPECT_EQ(config.optim.lr_scale.at("*.gate.*"), 0.1);
  EXPECT_EQ(config.data.path, (std::vector<DataSource>{{"data/x", 1.0, ""}}));
  EXPECT_EQ(config.train.steps, 3);
  EXPECT_EQ(config.train.freeze, std::vector<std::string>{"a"});
}

TEST(Sources, SetsDoNotReachIntoLists) {
  EXPECT_EQ(complaint("moe: {balance: [{coef: 1}, {coef: 2}]}\n", {"moe.balance.coef=3"}),
            "--set moe.balance.coef=3: `moe.balance` is a list in the config; give a whole one: "
            "'moe.balance=[{...}, {...}]'");
}

TEST(Sources, AConfigIsAMappingOfBoundedSize) {
  EXPECT_EQ(complaint("- 1\n"),
            "run.yaml:1: a config is a mapping (`key: value` lines), got a list");
  EXPECT_EQ(complaint(std::string((1 << 20) + 1, '#')),
            "run.yaml:1: more than the 1 MiB a config may have; is it one?");
  EXPECT_EQ(complaint("# nothing\n"), "");
}

TEST(Sources, BrokenSyntaxDoesNotHideOtherMistakes) {
  const ConfigFolder folder;
  folder.write("base.yaml", "model: {hiden_size: 8}\n");
  folder.write("run.yaml", "extends: base.yaml\n");
  folder.write("run.yaml", "moe: {top_k: 2\n");
  EXPECT_EQ(complaint(folder, {"moe.topk=2"}),
            "run.yaml:2: not valid YAML: end of map flow not found\n"
            "--set moe.topk=2: unknown key `moe.topk`; did you mean `moe.top_k`?");
}

}  // namespace
}  // namespace switchyard
