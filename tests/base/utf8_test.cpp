#include "base/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace switchyard {
namespace {

TEST(Utf8Test, AcceptsEveryLengthOfCharacter) {
  EXPECT_EQ(first_invalid_utf8(""), std::nullopt);
  EXPECT_EQ(first_invalid_utf8("plain text of more than eight bytes"), std::nullopt);
  EXPECT_EQ(first_invalid_utf8("\xc2\x80 \xdf\xbf \xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80"),
            std::nullopt);
  EXPECT_EQ(first_invalid_utf8("\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf"), std::nullopt);
}

TEST(Utf8Test, FindsWhatRfc3629Forbids) {
  for (const char* bad :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xc2", "\xe2\x82",
        "\xc2"
        "A"}) {
    EXPECT_EQ(first_invalid_utf8(std::string("0123456789") + bad), 10U) << bad;
  }
}

TEST(Utf8Test, LinesCountFromOne) {
  EXPECT_EQ(line_of("a\nb\nc", 0), 1U);
  EXPECT_EQ(line_of("a\nb\nc", 2), 2U);
  EXPECT_EQ(line_of("a\nb\nc", 4), 3U);
}

}  // namespace
}  // namespace switchyard
