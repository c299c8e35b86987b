#include "data/bpe.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

/// a, b, c are 0, 1, 2; then ab = 3, bc = 4, abc = 5, aa = 6 in the order of rank.
Bpe small_bpe() {
  Bpe bpe;
  for (int i = 0; i < 3; ++i) bpe.set_byte(static_cast<uint8_t>('a' + i), i);
  bpe.add_merge(1, 2, 0, 4);
  bpe.add_merge(0, 1, 1, 3);
  bpe.add_merge(0, 4, 2, 5);
  bpe.add_merge(0, 0, 3, 6);
  return bpe;
}

std::vector<int32_t> ids_of(const Bpe& bpe, std::string_view word) {
  std::vector<int32_t> ids;
  bpe.encode(word, ids);
  return ids;
}

TEST(BpeTest, TheLowestRankMergesFirst) {
  const Bpe bpe = small_bpe();
  EXPECT_EQ(ids_of(bpe, "abc"), (std::vector<int32_t>{5}));  // bc, then a + bc
  EXPECT_EQ(ids_of(bpe, "abb"), (std::vector<int32_t>{3, 1}));
  EXPECT_EQ(ids_of(bpe, "cab"), (std::vector<int32_t>{2, 3}));
}

TEST(BpeTest, OfEqualRanksTheLeftmostMergesFirst) {
  EXPECT_EQ(ids_of(small_bpe(), "aaa"), (std::vector<int32_t>{6, 0}));
  EXPECT_EQ(ids_of(small_bpe(), "aaaa"), (std::vector<int32_t>{6, 6}));
}

TEST(BpeTest, ARememberedWordHasTheSameIds) {
  const Bpe bpe = small_bpe();
  const std::string long_word(1000, 'a');
  EXPECT_EQ(ids_of(bpe, "abcab"), ids_of(bpe, "abcab"));
  EXPECT_EQ(ids_of(bpe, long_word), std::vector<int32_t>(500, 6));
  EXPECT_EQ(ids_of(bpe, long_word), std::vector<int32_t>(500, 6));
}

TEST(BpeTest, AWholeWordNeedsNoMerge) {
  Bpe bpe = small_bpe();
  bpe.add_whole_word("cba", 9);
  EXPECT_EQ(ids_of(bpe, "cba"), (std::vector<int32_t>{9}));
  EXPECT_EQ(ids_of(bpe, "cbac"), (std::vector<int32_t>{2, 1, 0, 2}));
}

TEST(BpeTest, BytesWithoutAnIdAreDroppedOrUnknown) {
  EXPECT_EQ(ids_of(small_bpe(), "axxb"), (std::vector<int32_t>{3}));
  Bpe each = small_bpe(), fused = small_bpe();
  each.set_unknown(8, Bpe::Unknown::kEach);
  fused.set_unknown(8, Bpe::Unknown::kFused);
  EXPECT_EQ(ids_of(each, "axxb"), (std::vector<int32_t>{0, 8, 8, 1}));
  EXPECT_EQ(ids_of(fused, "axxb"), (std::vector<int32_t>{0, 8, 1}));
}

}  // namespace
}  // namespace switchyard
