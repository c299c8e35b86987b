#include "config/load_config.h"

#include <gtest/gtest.h>

#include "config_folder.h"

namespace switchyard {
namespace {

constexpr const char* kManyMistakes = R"(model:
  hiden_size: 12
  top_k: 3
  num_hidden_layers: 4
  num_hidden_layers: 4
  ffn: swiglo
moe:
  balance: [{typ: x}, {coef: -1}]
  capacity: {factor: 1.25, priority: choice}
train: {steps: 1e3, global_batch_size: 7}
parallel: {expert: 3}
optimizer: {}
)";

TEST(LoadConfig, ReportsAllMistakesAtOnceInOrder) {
  EXPECT_EQ(
      complaint(kManyMistakes, {"run.seed=-1"}, 2),
      "run.yaml:2: unknown key `model.hiden_size`; did you mean `model.hidden_size`?\n"
      "run.yaml:3: unknown key `model.top_k`; it belongs to `moe`: write `moe.top_k`\n"
      "run.yaml:5: duplicate key `model.num_hidden_layers`; it was given at run.yaml:4, keep one "
      "of the two\n"
      "run.yaml:6: `model.ffn` must be one of swiglu, geglu, gelu, relu, got `swiglo`; did you "
      "mean `swiglu`?\n"
      "run.yaml:8: unknown key `moe.balance[0].typ`; did you mean `moe.balance.type`?\n"
      "run.yaml:8: `moe.balance[1].coef` must be at least 0, got -1\n"
      "run.yaml:9: `moe.capacity.priority` choice with a capacity lets later tokens push out "
      "earlier ones; use position, no capacity (`factor: null`, `eval_factor: null`), or "
      "`moe.allow_noncausal: true` to accept it\n"
      "run.yaml:10: `train.steps` must be an integer, got `1e3`; write 1000\n"
      "run.yaml:10: `train.global_batch_size` 7 is not a multiple of 8 = 2 ranks * "
      "`train.micro_batch_size` 4; use 8\n"
      "run.yaml:11: `moe.num_experts` 8 cannot be shared out evenly to `parallel.expert` 3 ranks; "
      "use 1, 2, 4 or 8 ranks, or 6 or 9 experts\n"
      "run.yaml:11: `parallel.expert` 3 does not divide the world of 2 ranks; use 1 or 2, or start "
      "3 ranks\n"
      "run.yaml:12: unknown key `optimizer`; did you mean `optim`?\n"
      "--set run.seed=-1: `run.seed` must be at least 0, got -1");
}

TEST(LoadConfig, AnEmptyFileIsTheDefaultsResolved) {
  const ConfigFolder folder;
  folder.write("run.yaml", "");
  RunConfig expected;
  expected.model.num_key_value_heads = 8;
  expected.model.head_dim = 32;
  EXPECT_EQ(load_config(folder / "run.yaml", {}, 1), expected);
}

TEST(LoadConfig, ParseRefusesExtends) {
  EXPECT_THROW(parse_config("extends: a.yaml\n", "config.yaml"), ConfigError);
  EXPECT_THROW(parse_config("model: [", "config.yaml"), ConfigError);
}

/// Text that is no config must be refused, never crash or hang.
TEST(LoadConfig, SurvivesDamagedText) {
  const RunConfig defaults;
  const std::string good = to_yaml(defaults);
  uint32_t state = 12345;
  const auto draw = [&](size_t n) {
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % n;
  };
  constexpr std::string_view kLetters = "{}[]:,-#&*!|>'\"%@`\n\t ?x0\x01\xff~<";
  for (int round = 0; round < 2000; ++round) {
    std::string text = good.substr(0, 200 + draw(good.size() - 200));
    for (size_t i = 0; i < 1 + draw(6); ++i) {
      text[draw(text.size())] = kLetters[draw(kLetters.size())];
    }
    try {
      parse_config(text, "f");
    } catch (const ConfigError&) {
    }
  }
}

}  // namespace
}  // namespace switchyard
