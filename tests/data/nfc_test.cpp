#include "data/nfc.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

std::string nfc(std::string_view text) {
  std::string storage;
  return std::string(to_nfc(text, storage));
}

TEST(NfcTest, ComposesWhatComposes) {
  EXPECT_EQ(nfc("cafe\u0301s"), "caf\u00e9s");
  EXPECT_EQ(nfc("A\u030a \u212b"), "\u00c5 \u00c5");  // the angstrom sign is a letter
  EXPECT_EQ(nfc("\u1112\u1161\u11ab"), "\ud55c");     // Hangul, by formula
  EXPECT_EQ(nfc("\ud558\u11ab"), "\ud55c");
}

TEST(NfcTest, MarksAreOrderedBeforeTheyCompose) {
  EXPECT_EQ(nfc("s\u0307\u0323"), "\u1e69");
  EXPECT_EQ(nfc("s\u0323\u0307"), "\u1e69");
  EXPECT_EQ(nfc("q\u0307\u0323"), "q\u0323\u0307");
}

TEST(NfcTest, ExcludedCompositionsStayApart) {
  EXPECT_EQ(nfc("\u0958"), "\u0915\u093c");
  EXPECT_EQ(nfc("\u0915\u093c"), "\u0915\u093c");
}

TEST(NfcTest, AMarkThatIsBlockedStays) {
  EXPECT_EQ(nfc("a\u0327\u0327\u0301"), "\u00e1\u0327\u0327");
  EXPECT_EQ(nfc("a\u0315\u0300"), "\u00e0\u0315");
  EXPECT_EQ(nfc("\u0301a"), "\u0301a");
}

TEST(NfcTest, WhatIsInTheFormIsReturnedAsItIs) {
  for (const std::string_view text :
       {"", "plain", "caf\u00e9 \u65e5\u672c \ud55c \u0928\u092e\u0938\u094d\u0924\u0947"}) {
    std::string storage;
    EXPECT_EQ(to_nfc(text, storage).data(), text.data());
    EXPECT_EQ(to_nfc(text, storage), text);
  }
}

}  // namespace
}  // namespace switchyard
