#include "train/parity.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace switchyard {
namespace {

TEST(ParseLayoutsTest, ReadsRanksExpertDegreeAndAccumulation) {
  const std::vector<Layout> layouts = parse_layouts("1x1,4x2,2x1a4,4x2z2,8x4a2z0");
  ASSERT_EQ(layouts.size(), 5U);
  EXPECT_EQ(layouts[1].ranks, 4);
  EXPECT_EQ(layouts[1].expert, 2);
  EXPECT_EQ(layouts[1].accumulation, 0);
  EXPECT_EQ(layouts[2].ranks, 2);
  EXPECT_EQ(layouts[2].accumulation, 4);
  EXPECT_EQ(layouts[2].text, "2x1a4");
  EXPECT_EQ(layouts[2].zero_stage, std::nullopt);
  EXPECT_EQ(layouts[3].zero_stage, 2);
  EXPECT_EQ(layouts[3].accumulation, 0);
  EXPECT_EQ(layouts[4].accumulation, 2);
  EXPECT_EQ(layouts[4].zero_stage, 0);
}

TEST(ParseLayoutsTest, RefusesWhatIsNoLayout) {
  for (const char* text :
       {"", "2", "2x", "x2", "0x1", "2x1b3", "2x2z3", "2x2z", "2x2z2a2", "2x2,", "2 x 2", "-1x1"}) {
    EXPECT_THROW(parse_layouts(text), ConfigError) << text;
  }
}

TEST(ParsePlantTest, KnowsItsWords) {
  EXPECT_EQ(parse_plant("expert-mean"), Plant::kExpertMean);
  EXPECT_THROW(parse_plant("expert_mean"), ConfigError);
}

}  // namespace
}  // namespace switchyard
