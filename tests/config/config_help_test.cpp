#include <gtest/gtest.h>

#include <regex>

#include "config/keys.h"
#include "config/load_config.h"

namespace switchyard {
namespace {

TEST(ConfigHelp, NamesEveryKey) {
  const std::string help = config_help();
  for (const Key& key : all_keys()) {
    EXPECT_NE(help.find(key.path()), std::string::npos) << key.path();
  }
  EXPECT_NE(help.find("extends"), std::string::npos);
}

TEST(ConfigHelp, TellsDefaultRangeAndMeaning) {
  const std::string help = config_help();
  for (const char* text :
       {"  moe.top_k: 2    (integer [experts], at least 1)\n      Experts per token.\n",
        "  model.ffn: swiglu    (one of swiglu | geglu | gelu | relu)\n",
        "  model.head_dim: auto    (integer [features], at least 1, or auto = hidden_size / "
        "num_attention_heads)\n",
        "  moe.capacity.factor: null    (number [even loads], above 0, or null = dropless",
        "  optim.betas: [0.9, 0.95]    (list of 2 numbers [share], each at least 0 and below 1)\n",
        "  checkpoint.async: true    (true or false)\n"}) {
    EXPECT_NE(help.find(text), std::string::npos) << text << "\n" << help;
  }
}

// One line with name, default and type; the next ones say what it means.
TEST(ConfigHelp, EveryKeyHasATypeAndAMeaning) {
  const std::string help = config_help();
  const std::string type =
      "(integer|number|true or false|text|one of .+|list of .+|mapping of .+|all \\| none .+)";
  const std::string unit = "( \\[[a-zA-Z ,.]+\\])?";
  for (const Key& key : all_keys()) {
    if (key.holds_keys) continue;
    const std::regex entry("\n  " + std::regex_replace(key.path(), std::regex("\\."), "\\.") +
                           ": [^\n]+    \\(" + type + unit + ".*\\)\n      [A-Za-z0-9]");
    EXPECT_TRUE(std::regex_search(help, entry)) << key.path();
  }
}

TEST(ConfigHelp, CountsAndTimesHaveUnits) {
  const std::string help = config_help();
  for (const char* text : {"data.sequence_length: 256    (integer [tokens], at least 1)",
                           "watchdog.timeout_seconds: 300    (integer [seconds], at least 0)",
                           "train.steps: 400    (integer [steps], at least 0)",
                           "train.global_batch_size: 8    (integer [samples], at least 1)"}) {
    EXPECT_NE(help.find(text), std::string::npos) << text << "\n" << help;
  }
}

}  // namespace
}  // namespace switchyard
