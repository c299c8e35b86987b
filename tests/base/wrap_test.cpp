#include "base/wrap.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

TEST(Wrap, FillsLinesAndBreaksAtSpaces) {
  EXPECT_EQ(wrap("one two three", 2, 9), "  one two\n  three\n");
  EXPECT_EQ(wrap("one two three", 2, 10), "  one two\n  three\n");
  EXPECT_EQ(wrap("one two three", 0, 13), "one two three\n");
}

TEST(Wrap, ALongWordHasALineOfItsOwn) {
  EXPECT_EQ(wrap("a longword b", 1, 4), " a\n longword\n b\n");
}

}  // namespace
}  // namespace switchyard
