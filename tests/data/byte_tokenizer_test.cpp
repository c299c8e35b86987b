#include "data/byte_tokenizer.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

TEST(ByteTokenizerTest, EveryByteIsItsId) {
  const ByteTokenizer tokenizer;
  EXPECT_EQ(tokenizer.encode("A\n\xff"), (std::vector<int32_t>{65, 10, 255}));
  EXPECT_EQ(tokenizer.vocab_size(), 257);
  EXPECT_EQ(tokenizer.eos(), 256);
}

TEST(ByteTokenizerTest, DecodesWhatItEncodesAcrossBlocks) {
  const ByteTokenizer tokenizer;
  std::string text;
  for (int i = 0; i < 100000; ++i) text += static_cast<char>(i * 7);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

TEST(ByteTokenizerTest, EndOfTextStandsForNoByte) {
  const std::vector<int32_t> ids = {65, 256, 66};
  EXPECT_EQ(ByteTokenizer().decode(ids), "AB");
}

}  // namespace
}  // namespace switchyard
