#include "data/byte_level.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

TEST(ByteLevelTest, SpellsEveryByteWithAPrintableCharacter) {
  EXPECT_EQ(byte_level_character('A'), "A");
  EXPECT_EQ(byte_level_character(' '), "\u0120");
  EXPECT_EQ(byte_level_character('\n'), "\u010a");
  EXPECT_EQ(byte_level_character(0xAD), "\u0143");
  EXPECT_EQ(byte_level_character(0xFF), "\u00ff");
  for (int byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(bytes_of_byte_level(byte_level_character(static_cast<unsigned char>(byte))),
              std::string(1, static_cast<char>(byte)));
  }
}

TEST(ByteLevelTest, ReadsATokenBack) {
  EXPECT_EQ(bytes_of_byte_level("\u0120caf\u00c3\u00a9"), " caf\xc3\xa9");
  EXPECT_EQ(bytes_of_byte_level(""), "");
}

TEST(ByteLevelTest, OtherCharactersAreNotOfTheAlphabet) {
  EXPECT_EQ(bytes_of_byte_level("a b"), std::nullopt);
  EXPECT_EQ(bytes_of_byte_level("\u65e5"), std::nullopt);
  EXPECT_EQ(bytes_of_byte_level("\u0144"), std::nullopt);
}

}  // namespace
}  // namespace switchyard
