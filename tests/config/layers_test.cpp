#include "config/layers.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "config/load_config.h"

namespace switchyard {
namespace {

using Layers = std::vector<int64_t>;

Layers pick(const std::string& text, int64_t num_layers) {
  MoeConfig moe;
  moe.layers = text;
  return moe_layer_indices(moe, num_layers);
}

TEST(Layers, PicksByWordByCountAndByList) {
  EXPECT_EQ(pick("all", 3), (Layers{0, 1, 2}));
  EXPECT_EQ(pick("none", 3), Layers{});
  EXPECT_EQ(pick("every:1", 3), (Layers{0, 1, 2}));
  EXPECT_EQ(pick("every:2", 6), (Layers{1, 3, 5}));
  EXPECT_EQ(pick("every:2", 5), (Layers{1, 3}));
  EXPECT_EQ(pick("every:4", 4), (Layers{3}));
  EXPECT_EQ(pick("last:2", 6), (Layers{4, 5}));
  EXPECT_EQ(pick("3,1", 6), (Layers{1, 3}));
  EXPECT_EQ(pick("0", 1), (Layers{0}));
}

TEST(Layers, SaysWhatIsWrong) {
  EXPECT_EQ(choose_layers("evry:2", 4).error,
            "must be all, none, every:N, last:N or a list such as [1, 3], got `evry:2`; did you "
            "mean `every:N`?");
  EXPECT_EQ(choose_layers("every:0", 4).error,
            "must have a whole number of at least 1 after every:, got `every:0`");
  EXPECT_EQ(choose_layers("every:x", 4).error,
            "must have a whole number of at least 1 after every:, got `every:x`");
  EXPECT_EQ(choose_layers("last:5", 4).error,
            "last:5 is more than the 4 layers of model.num_hidden_layers; use at most 4, or none");
  EXPECT_EQ(choose_layers("1,4", 4).error,
            "names layer 4; layers are 0 to 3 (model.num_hidden_layers)");
  EXPECT_EQ(choose_layers("-1", 4).error,
            "names layer -1; layers are 0 to 3 (model.num_hidden_layers)");
  EXPECT_EQ(choose_layers("1,1", 4).error, "names layer 1 twice; remove one");
  for (const char* text : {"", ",", "1,", "1;2", "first:2", "all,1"}) {
    EXPECT_FALSE(choose_layers(text, 4).error.empty()) << text;
  }
}

TEST(Layers, ThrowsAConfigErrorThatNamesTheKey) {
  try {
    pick("some", 4);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_EQ(std::string(error.what()),
              "`moe.layers` must be all, none, every:N, last:N or a list such as [1, 3], got "
              "`some`");
  }
}

}  // namespace
}  // namespace switchyard
