#include "bench/rounds.h"

#include <gtest/gtest.h>

#include <string>

#include "distributed/solo_communicator.h"

namespace switchyard {
namespace {

TEST(Samples, StatisticsAreOverQuietRoundsWhereThereAreFive) {
  Samples samples;
  for (const double seconds : {9.0, 8.0, 7.0}) samples.add(seconds, /*quiet=*/false);
  for (const double seconds : {1.0, 2.0, 3.0, 5.0}) samples.add(seconds, /*quiet=*/true);
  EXPECT_EQ(samples.median(), 5.0);  // four are too few: of all seven
  EXPECT_EQ(samples.max(), 9.0);
  samples.add(4.0, /*quiet=*/true);
  EXPECT_EQ(samples.median(), 3.0);
  EXPECT_EQ(samples.min(), 1.0);
  EXPECT_EQ(samples.max(), 5.0);
  EXPECT_EQ(samples.rounds(), 8);
  EXPECT_EQ(samples.quiet(), 5);
}

TEST(Samples, TheMedianOfAnEvenNumberIsBetweenTheMiddleTwo) {
  Samples samples;
  for (const double seconds : {4.0, 1.0, 2.0, 8.0}) samples.add(seconds, /*quiet=*/false);
  EXPECT_EQ(samples.median(), 3.0);
}

TEST(Rounds, BodiesRunInTurnAndWarmUpDoesNotCount) {
  const auto world = make_solo_communicator("world");
  std::string order;
  Rounds rounds;
  rounds.warmup = 2;
  rounds.quiet = int64_t{1} << 40;  // never
  rounds.seconds = 0;               // so: 3 rounds
  const auto samples = time_in_turn(*world, rounds, {[&] { order += "a"; }, [&] { order += "b"; }});
  EXPECT_EQ(order, "ababababab");
  ASSERT_EQ(samples.size(), 2U);
  EXPECT_EQ(samples[0].rounds(), 3);
  EXPECT_EQ(samples[1].rounds(), 3);
}

TEST(Rounds, ShortCallsAreRepeated) {
  const auto world = make_solo_communicator("world");
  int64_t calls = 0;
  EXPECT_GT(repeats(*world, [&] { calls += 1; }), 100);
  EXPECT_GT(calls, 100);
}

}  // namespace
}  // namespace switchyard
