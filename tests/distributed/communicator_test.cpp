#include "distributed/communicator.h"

#include <gtest/gtest.h>

#include "support/mpi_main.h"

namespace switchyard {
namespace {

TEST(CommunicatorTextTest, BroadcastBringsTheRootsTextToEveryRank) {
  const Mesh mesh = test_runtime().make_mesh({});
  Communicator& world = *mesh.world;
  const std::string with_zero_bytes("a\0b\0", 4), longer(100'000, 'x');
  for (int root = 0; root < world.size(); ++root) {
    for (const std::string& text :
         {std::string(), std::string("model: tiny\n"), with_zero_bytes, longer}) {
      const std::string mine = world.rank() == root ? text : "another rank's text";
      EXPECT_EQ(broadcast_text(world, mine, root, "text"), text);
    }
  }
}

TEST(CommunicatorTextTest, AllGatherKeepsEachRanksTextAndItsLength) {
  const Mesh mesh = test_runtime().make_mesh({});
  Communicator& world = *mesh.world;
  const auto text_of = [](int rank) {
    return std::string(static_cast<size_t>(rank) * 30'000, static_cast<char>('a' + rank));
  };
  const auto texts = all_gather_text(world, text_of(world.rank()), "texts");
  ASSERT_EQ(texts.size(), static_cast<size_t>(world.size()));
  for (int r = 0; r < world.size(); ++r) EXPECT_EQ(texts[r], text_of(r)) << r;
}

TEST(CommunicatorTextTest, AllGatherOfEmptyTexts) {
  const Mesh mesh = test_runtime().make_mesh({});
  EXPECT_EQ(all_gather_text(*mesh.world, "", "texts"),
            std::vector<std::string>(mesh.world->size()));
}

}  // namespace
}  // namespace switchyard
