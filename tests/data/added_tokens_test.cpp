#include "data/added_tokens.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

/// Texts as they are, tokens as #id.
std::vector<std::string> parts_of(const AddedTokens& tokens, std::string_view text) {
  std::vector<std::string> parts;
  tokens.split(
      text, [&parts](std::string_view piece) { parts.emplace_back(piece); },
      [&parts](int32_t id) { parts.push_back("#" + std::to_string(id)); });
  return parts;
}

AddedTokens tokens_of(const std::vector<AddedToken>& list) {
  AddedTokens tokens;
  for (const AddedToken& token : list) tokens.add(token);
  return tokens;
}

TEST(AddedTokensTest, CutsTheTextAtThem) {
  const AddedTokens tokens = tokens_of({{1, "<s>"}, {2, "</s>"}});
  EXPECT_EQ(parts_of(tokens, "<s>a</s></s>b"),
            (std::vector<std::string>{"#1", "a", "#2", "#2", "b"}));
  EXPECT_EQ(parts_of(tokens, "a<b"), (std::vector<std::string>{"a<b"}));
  EXPECT_EQ(parts_of(tokens, ""), std::vector<std::string>{});
}

TEST(AddedTokensTest, TheLeftmostWinsThenTheLongest) {
  const AddedTokens tokens = tokens_of({{1, "ab"}, {2, "abc"}, {3, "bcd"}});
  EXPECT_EQ(parts_of(tokens, "xabcd"), (std::vector<std::string>{"x", "#2", "d"}));
  EXPECT_EQ(parts_of(tokens, "abd"), (std::vector<std::string>{"#1", "d"}));
}

TEST(AddedTokensTest, StripsTakeTheWhiteSpaceBesideThem) {
  const AddedTokens tokens = tokens_of({{1, "L", true, false}, {2, "R", false, true}});
  EXPECT_EQ(parts_of(tokens, "a \u00a0\u3000L b"), (std::vector<std::string>{"a", "#1", " b"}));
  EXPECT_EQ(parts_of(tokens, "a R \n\u2003b"), (std::vector<std::string>{"a ", "#2", "b"}));
  EXPECT_EQ(parts_of(tokens, "R  L"), (std::vector<std::string>{"#2", "#1"}));
}

}  // namespace
}  // namespace switchyard
