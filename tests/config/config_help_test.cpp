#include <gtest/gtest.h>

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
       {"  moe.top_k: 2    (integer, at least 1)\n      Experts per token.\n",
        "  model.ffn: swiglu    (swiglu | geglu | gelu | relu)\n",
        "  model.head_dim: auto    (integer, at least 1, or auto = hidden_size / "
        "num_attention_heads)\n",
        "  moe.capacity.factor: null    (number, above 0, or null = dropless",
        "  optim.betas: [0.9, 0.95]    (list of 2 numbers, each at least 0 and below 1)\n",
        "  checkpoint.async: true    (true or false)\n"}) {
    EXPECT_NE(help.find(text), std::string::npos) << text << "\n" << help;
  }
}

}  // namespace
}  // namespace switchyard
