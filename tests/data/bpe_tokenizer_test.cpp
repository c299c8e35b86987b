#include "data/bpe_tokenizer.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/byte_level.h"
#include "data/temp_folder.h"

namespace switchyard {
namespace {

// Ids against Hugging Face's own: tests/python/data/test_hugging_face.py.

/// The bytes are ids 0 ... 255, then " a" and " ab"; <|endoftext|> is 258, "<mark>" 259.
nlohmann::json small_tokenizer() {
  nlohmann::json vocab;
  for (int byte = 0; byte < 256; ++byte)
    vocab[byte_level_character(static_cast<unsigned char>(byte))] = byte;
  vocab["\u0120a"] = 256;
  vocab["\u0120ab"] = 257;
  const nlohmann::json merges = {"\u0120 a", "\u0120a b"};
  const nlohmann::json eos = {{"id", 258}, {"content", "<|endoftext|>"}, {"special", true}};
  const nlohmann::json mark = {{"id", 259}, {"content", "<mark>"}, {"special", false}};
  return {{"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"added_tokens", {eos, mark}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

std::string write(const TempFolder& folder, const nlohmann::json& json) {
  return folder.write("tokenizer.json", json.dump());
}

TEST(BpeTokenizerTest, EncodesAndDecodes) {
  const TempFolder folder;
  const BpeTokenizer tokenizer(write(folder, small_tokenizer()));
  EXPECT_EQ(tokenizer.vocab_size(), 260);
  EXPECT_EQ(tokenizer.eos(), 258);
  EXPECT_EQ(tokenizer.encode("ab ab ac"), (std::vector<int32_t>{'a', 'b', 257, 256, 'c'}));
  for (const std::string text : {"", " ab\n caf\u00e9 \u65e5\u672c", "<mark> and <mark>"}) {
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
}

TEST(BpeTokenizerTest, SpecialTokensAreFoundAndStandForNothing) {
  const TempFolder folder;
  const BpeTokenizer tokenizer(write(folder, small_tokenizer()));
  const std::vector<int32_t> ids = tokenizer.encode("a<|endoftext|><mark>");
  EXPECT_EQ(ids, (std::vector<int32_t>{'a', 258, 259}));
  EXPECT_EQ(tokenizer.decode(ids), "a<mark>");
}

TEST(BpeTokenizerTest, AHalfCharacterDecodesToItsBytes) {
  const TempFolder folder;
  const BpeTokenizer tokenizer(write(folder, small_tokenizer()));
  const std::vector<int32_t> ids = {0xc3}, unknown = {-1, 1000};
  EXPECT_EQ(tokenizer.decode(ids), "\xc3");
  EXPECT_EQ(tokenizer.decode(unknown), "");
}

TEST(BpeTokenizerTest, InvalidUtf8IsRefused) {
  const TempFolder folder;
  const BpeTokenizer tokenizer(write(folder, small_tokenizer()));
  EXPECT_THROW(tokenizer.encode("ab\xff"), DataError);
}

TEST(BpeTokenizerTest, TheConfigBesideItNamesTheEnd) {
  const TempFolder folder;
  folder.write("tokenizer_config.json", R"({"eos_token": "<mark>"})");
  EXPECT_EQ(BpeTokenizer(write(folder, small_tokenizer())).eos(), 259);
  folder.write("tokenizer_config.json", R"({"eos_token": {"content": "<mark>"}})");
  EXPECT_EQ(BpeTokenizer(write(folder, small_tokenizer())).eos(), 259);
  folder.write("tokenizer_config.json", R"({"eos_token": "<other>"})");
  EXPECT_THROW(BpeTokenizer(write(folder, small_tokenizer())), DataError);
}

TEST(BpeTokenizerTest, WhatIsNotBuiltInIsNamed) {
  const TempFolder folder;
  const auto complaint = [&folder](const char* pointer, const nlohmann::json& value) {
    nlohmann::json json = small_tokenizer();
    json[nlohmann::json::json_pointer(pointer)] = value;
    const std::string path = write(folder, json);
    return message_of<DataError>([&path] { BpeTokenizer tokenizer(path); });
  };
  EXPECT_NE(complaint("/model/type", "WordPiece").find("model WordPiece is not built in"),
            std::string::npos);
  EXPECT_NE(complaint("/model/dropout", 0.1).find("option dropout"), std::string::npos);
  EXPECT_NE(complaint("/model/byte_fallback", true).find("option byte_fallback"),
            std::string::npos);
  EXPECT_NE(complaint("/normalizer", {{"type", "NFKC"}}).find("normalizer NFKC"),
            std::string::npos);
  EXPECT_NE(complaint("/added_tokens/1/single_word", true).find("single_word"), std::string::npos);
  EXPECT_NE(complaint("/added_tokens/0/content", "<eot>").find("no token that ends a document"),
            std::string::npos);
  EXPECT_NE(complaint("/model/merges/0", "a b c").find("model.merges[0]"), std::string::npos);
  EXPECT_NE(complaint("/model/merges/0", {"x", "y"}).find("not in the vocab"), std::string::npos);
}

}  // namespace
}  // namespace switchyard
