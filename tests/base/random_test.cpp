#include "base/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace switchyard {
namespace {

// Known answers of Random123 1.14's kat_vectors for philox4x32-10.
TEST(RandomTest, PhiloxMatchesTheAuthorsKnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomTest, NormalHasUnitMoments) {
  const RandomStream stream(7, "test");
  constexpr int kDraws = 100000;
  double sum = 0, squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = stream.normal(i);
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / kDraws, 0.0, 0.015);
  EXPECT_NEAR(squares / kDraws, 1.0, 0.02);
}

TEST(RandomTest, TruncatedNormalStaysInsideAndIsAFunctionOfItsIndex) {
  const RandomStream stream(7, "test");
  for (int i = 0; i < 20000; ++i) {
    EXPECT_LE(std::abs(stream.truncated_normal(i, 2.0F)), 2.0F);
    EXPECT_EQ(stream.truncated_normal(i, 2.0F), stream.truncated_normal(i, 2.0F));
  }
}

TEST(RandomTest, StreamsOfDifferentPurposesDiffer) {
  EXPECT_NE(RandomStream(7, "a").uniform(0), RandomStream(7, "b").uniform(0));
  EXPECT_NE(RandomStream(7, "a").uniform(0), RandomStream(8, "a").uniform(0));
}

TEST(RandomTest, PermutationIsABijectionForEverySmallSize) {
  for (uint64_t n = 1; n <= 300; ++n) {
    const Permutation permutation(n, 1, "shuffle", 0);
    std::vector<int> seen(n, 0);
    for (uint64_t i = 0; i < n; ++i) ++seen.at(permutation(i));
    EXPECT_EQ(seen, std::vector<int>(n, 1)) << n;
  }
}

TEST(RandomTest, PermutationChangesWithTheEpochAndIsNotTheIdentity) {
  const Permutation first(1000, 1, "shuffle", 0), second(1000, 1, "shuffle", 1);
  int fixed = 0, equal = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    fixed += first(i) == i;
    equal += first(i) == second(i);
  }
  EXPECT_LT(fixed, 20);
  EXPECT_LT(equal, 20);
}

}  // namespace
}  // namespace switchyard
