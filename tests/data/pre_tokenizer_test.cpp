#include "data/pre_tokenizer.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/temp_folder.h"

namespace switchyard {
namespace {

using Words = std::vector<std::string>;

Words words_of(const char* json, const std::string& text) {
  const auto pre_tokenizer = PreTokenizer::from_json(nlohmann::json::parse(json), "test");
  Words words;
  pre_tokenizer.split(text, [&words](std::string_view word) { words.emplace_back(word); });
  return words;
}

TEST(PreTokenizerTest, ByteLevelCutsAsGpt2Does) {
  const char* json = R"({"type": "ByteLevel", "add_prefix_space": false})";
  EXPECT_EQ(words_of(json, "It's 12 o'clock!  \n Yes"),
            (Words{"It", "'s", " 12", " o", "'", "clock", "!", "  \n", " Yes"}));
  EXPECT_EQ(words_of(json, ""), Words{});
}

TEST(PreTokenizerTest, APrefixSpaceIsPutWhereThereIsNone) {
  const char* json = R"({"type": "ByteLevel", "add_prefix_space": true, "use_regex": false})";
  EXPECT_EQ(words_of(json, "a b"), (Words{" a b"}));
  EXPECT_EQ(words_of(json, " a b"), (Words{" a b"}));
  EXPECT_EQ(words_of(json, "\na"), (Words{" \na"}));
}

// The look-ahead of ByteLevel's pattern sees the end of the piece that Digits made,
// so both spaces stay together.
TEST(PreTokenizerTest, EveryStageSeesThePiecesOfTheOneBefore) {
  const char* json = R"({"type": "Sequence", "pretokenizers": [
      {"type": "Digits", "individual_digits": true},
      {"type": "ByteLevel", "add_prefix_space": false}]})";
  EXPECT_EQ(words_of(json, "a  12"), (Words{"a", "  ", "1", "2"}));
  EXPECT_EQ(words_of(R"({"type": "ByteLevel", "add_prefix_space": false})", "a  12"),
            (Words{"a", " ", " 12"}));
}

TEST(PreTokenizerTest, SplitKeepsOrDropsTheGaps) {
  const std::string tail =
      R"(}, {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})";
  const std::string head =
      R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": )";
  EXPECT_EQ(
      words_of(
          (head + R"({"Regex": "b+"}, "behavior": "Isolated", "invert": false)" + tail).c_str(),
          "abbc"),
      (Words{"a", "bb", "c"}));
  EXPECT_EQ(
      words_of((head + R"({"Regex": "b+"}, "behavior": "Removed", "invert": true)" + tail).c_str(),
               "abbcb"),
      (Words{"bb", "b"}));
  EXPECT_EQ(
      words_of(
          (head + R"({"String": "."}, "behavior": "Isolated", "invert": false)" + tail).c_str(),
          "a.b"),
      (Words{"a", ".", "b"}));
  // A pattern that can match nothing still moves on, a whole character at a time.
  EXPECT_EQ(
      words_of(
          (head + R"({"Regex": "b*"}, "behavior": "Isolated", "invert": false)" + tail).c_str(),
          "\u65e5\u672cbb"),
      (Words{"\u65e5\u672c", "bb"}));
}

TEST(PreTokenizerTest, WhatIsNotBuiltInIsNamed) {
  const auto complaint = [](const char* json) {
    return message_of<DataError>(
        [json] { PreTokenizer::from_json(nlohmann::json::parse(json), "t.json"); });
  };
  EXPECT_NE(
      complaint(R"({"type": "Metaspace"})").find("t.json: pre_tokenizer Metaspace is not built in"),
      std::string::npos);
  EXPECT_NE(complaint(R"({"type": "Digits"})").find("without ByteLevel"), std::string::npos);
  EXPECT_NE(complaint("null").find("null"), std::string::npos);
  EXPECT_NE(
      complaint(
          R"({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "Digits"}]})")
          .find("Digits after ByteLevel"),
      std::string::npos);
  EXPECT_NE(
      complaint(R"({"type": "Split", "pattern": {"String": "a"}, "behavior": "MergedWithNext"})")
          .find("behavior MergedWithNext"),
      std::string::npos);
}

}  // namespace
}  // namespace switchyard
