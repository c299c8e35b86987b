#include "data/tiktoken_tokenizer.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/temp_folder.h"

namespace switchyard {
namespace {

// Ids against tiktoken's own: tests/python/data/test_tiktoken.py.

std::string base64(const std::string& bytes) {
  constexpr const char* kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t j = i; j < i + 3; ++j) {
      bits = bits << 8 | (j < bytes.size() ? static_cast<unsigned char>(bytes[j]) : 0U);
    }
    for (int j = 3; j >= 0; --j) text += kDigits[bits >> (6 * j) & 63];
  }
  const size_t padding = (3 - bytes.size() % 3) % 3;
  return text.replace(text.size() - padding, padding, padding, '=');
}

/// The bytes, then "th", "the", " the".
std::string small_ranks() {
  std::string lines;
  int rank = 0;
  for (int byte = 0; byte < 256; ++byte) {
    lines += base64(std::string(1, static_cast<char>(byte))) + " " + std::to_string(rank++) + "\n";
  }
  for (const char* token : {"th", "the", " the"})
    lines += base64(token) + " " + std::to_string(rank++) + "\n";
  return lines;
}

TEST(TiktokenTokenizerTest, MergesNeighboursThatAreATokenTogether) {
  const TempFolder folder;
  const TiktokenTokenizer tokenizer(folder.write("mine.tiktoken", small_ranks()));
  EXPECT_EQ(tokenizer.encode("the the th"), (std::vector<int32_t>{257, 258, ' ', 256}));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("the caf\u00e9")), "the caf\u00e9");
  EXPECT_EQ(tokenizer.eos(), 259);
  EXPECT_EQ(tokenizer.vocab_size(), 260);
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{259, -1, 1000}), "");
}

TEST(TiktokenTokenizerTest, ANameThatIsKnownBringsItsEnd) {
  const TempFolder folder;
  EXPECT_EQ(TiktokenTokenizer(folder.write("gpt2.tiktoken", small_ranks())).eos(), 50256);
  EXPECT_EQ(TiktokenTokenizer(folder.write("o200k_base.tiktoken", small_ranks())).vocab_size(),
            200019);
  const std::string text = message_of<DataError>([&] {
    TiktokenTokenizer tokenizer(
        folder.write("gpt2.tiktoken", small_ranks() + base64("zz") + " 50256\n"));
  });
  EXPECT_NE(text.find("rename the file"), std::string::npos) << text;
}

TEST(TiktokenTokenizerTest, ABadLineIsNamed) {
  const TempFolder folder;
  const auto complaint = [&folder](const std::string& lines) {
    return message_of<DataError>(
        [&] { TiktokenTokenizer tokenizer(folder.write("a.tiktoken", lines)); });
  };
  EXPECT_NE(complaint("IQ== 0\nIg==\n").find("a.tiktoken:2: not base64"), std::string::npos);
  EXPECT_NE(complaint("IQ= 0\n").find("a.tiktoken:1: not base64"), std::string::npos);
  EXPECT_NE(complaint("IQ== x\n").find("a.tiktoken:1: not base64"), std::string::npos);
  EXPECT_NE(complaint("IQ== 0\nIQ== 1\n").find("a.tiktoken:2: a rank or a token"),
            std::string::npos);
  EXPECT_NE(complaint("IQ== 0\n").find("lacks byte 0"), std::string::npos);
}

}  // namespace
}  // namespace switchyard
