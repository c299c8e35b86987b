#include "data/regex.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace switchyard {
namespace {

/// Everything that a pattern matches, in order.
std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  const Regex regex(pattern, "test");
  std::vector<std::string> found;
  for (size_t at = 0; at < text.size();) {
    const Regex::Match match = regex.find(text, at);
    if (match.begin == text.size()) break;
    found.push_back(text.substr(match.begin, match.end - match.begin));
    at = match.end;
  }
  return found;
}

TEST(RegexTest, SpaceIsUnicodesWhiteSpace) {
  // U+0085 and U+3000 are; U+180E (a format character since Unicode 6.3) and U+200B are not.
  EXPECT_EQ(matches("\\s", "a\u0085b\u3000c\u180ed\u200be f").size(), 3U);
  EXPECT_EQ(matches("[^\\s]+", "a\u3000b"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(matches("\\S+", "a\u3000b"), (std::vector<std::string>{"a", "b"}));
}

TEST(RegexTest, ClassesAreUnicodes) {
  EXPECT_EQ(matches("\\p{L}+", "caf\u00e9 \u65e5\u672c 12"),
            (std::vector<std::string>{"caf\u00e9", "\u65e5\u672c"}));
  EXPECT_EQ(matches("\\d+", "12 \u0663\u0664 \u00bd"),
            (std::vector<std::string>{"12", "\u0663\u0664"}));
  EXPECT_EQ(matches("(?i:'s)", "'s 'S"), (std::vector<std::string>{"'s", "'S"}));
  EXPECT_EQ(matches("[\\u4e00-\\u9fa5]", "a\u65e5b"), (std::vector<std::string>{"\u65e5"}));
}

TEST(RegexTest, LineEndsAreInsideTheTextToo) {
  EXPECT_EQ(matches("^.", "ab\ncd"), (std::vector<std::string>{"a", "c"}));
  EXPECT_EQ(matches(".$", "ab\ncd"), (std::vector<std::string>{"b", "d"}));
}

TEST(RegexTest, ALiteralMatchesItself) {
  const std::string text = "(a.b)[*]\\ ^$|?+{}-\u00e9";
  EXPECT_EQ(matches(Regex::literal(text), "x" + text + "x"), (std::vector<std::string>{text}));
}

TEST(RegexTest, WhatEnginesReadDifferentlyIsRefused) {
  for (const char* pattern :
       {"\\w+", "\\b", "\\h", "[a[b]]", "[[:alpha:]]", "[a-z&&b]", "\\p{N}{1,3}+", "("}) {
    EXPECT_THROW(Regex(pattern, "test"), DataError) << pattern;
  }
  for (const char* pattern : {"[]a]", "[^]a]", "\\p{N}{1,3}", "\\p{L}++", "a\\[b", "[\\[\\]]"}) {
    EXPECT_NO_THROW(Regex(pattern, "test")) << pattern;
  }
}

}  // namespace
}  // namespace switchyard
