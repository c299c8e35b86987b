#include "fuzz/mutator.h"

#include <gtest/gtest.h>

#include <set>

namespace switchyard {
namespace {

const std::vector<std::string> kWords = {"word"};

std::string mutated(uint64_t seed, uint64_t run, const std::string& bytes) {
  Dice dice(seed, run);
  return Mutator(dice, kWords).mutate(bytes, "another: [1, {\"two\": 3}]\nline\n");
}

TEST(DiceTest, ARunIsAFunctionOfSeedAndNumber) {
  EXPECT_EQ(Dice(3, 5).next(), Dice(3, 5).next());
  std::set<uint64_t> first;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    for (uint64_t run = 0; run < 30; ++run) first.insert(Dice(seed, run).next());
  }
  EXPECT_EQ(first.size(), 900u);
}

TEST(MutatorTest, RepeatsItself) {
  for (uint64_t run = 0; run < 200; ++run) {
    EXPECT_EQ(mutated(1, run, "a: 12\nb: [3]\n"), mutated(1, run, "a: 12\nb: [3]\n"));
  }
}

TEST(MutatorTest, EveryInputIsEdited) {
  std::set<std::string> texts;
  for (uint64_t run = 0; run < 1000; ++run) texts.insert(mutated(1, run, "a: 12\nb: [3, 4]\n"));
  EXPECT_GT(texts.size(), 500u);
}

TEST(MutatorTest, BearsEmptyAndStrangeTexts) {
  for (const std::string& text : {std::string(), std::string("\n"), std::string(3, '\0'),
                                  std::string("\"["), std::string("{{{{"), std::string(":")}) {
    for (uint64_t run = 0; run < 2000; ++run) EXPECT_LT(mutated(2, run, text).size(), 70'000u);
  }
}

}  // namespace
}  // namespace switchyard
