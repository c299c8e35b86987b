#include "distributed/hang_report.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

/// A world whose ranks have all made the same calls so far.
class HangReportTest : public testing::Test {
 protected:
  std::vector<SeenRank> make_ranks(int count) {
    std::vector<SeenRank> ranks(count);
    for (int rank = 0; rank < count; ++rank) {
      RankState& state = ranks[rank].state;
      state.rank = rank;
      state.host = "h";
      state.pid = 100 + rank;
      state.communicators = {{"world", {0, 1, count}}, {"expert parallel", {rank / 2 * 2, 1, 2}}};
      ranks[rank].process = ProcessState::kRunning;
      call(ranks[rank], "world", "barrier", "warm-up", 0.1);
      call(ranks[rank], "expert parallel", "all-to-all", "dispatch in layer 0", 0.1);
    }
    return ranks;
  }

  static RecordedCollective& call(SeenRank& seen, const std::string& communicator,
                                  const std::string& op, const std::string& purpose,
                                  std::optional<double> milliseconds = std::nullopt) {
    RecordedCollective made;
    made.communicator = communicator;
    made.op = op;
    made.purpose = purpose;
    made.milliseconds = milliseconds;
    for (const auto& earlier : seen.state.collectives) {
      made.number += earlier.communicator == communicator;
    }
    made.number += 1;
    return seen.state.collectives.emplace_back(made);
  }
};

TEST_F(HangReportTest, AStoppedRankIsNamedBeforeAllElse) {
  auto ranks = make_ranks(4);
  for (SeenRank& rank : ranks) call(rank, "world", "all-reduce", "gradients");
  ranks[2].process = ProcessState::kStopped;
  EXPECT_EQ(odd_one_out(ranks), "rank 2 (host h, pid 102) is stopped (SIGSTOP or a debugger)");
  ranks[3].process = ProcessState::kGone;
  EXPECT_EQ(odd_one_out(ranks),
            "rank 2 (host h, pid 102) is stopped (SIGSTOP or a debugger), rank 3 (host h, pid 103) "
            "is gone");
}

TEST_F(HangReportTest, ARankOutsideHoldsUpTheOthers) {
  auto ranks = make_ranks(4);
  for (const int rank : {0, 2, 3}) call(ranks[rank], "world", "all-reduce", "gradients");
  EXPECT_EQ(odd_one_out(ranks),
            "rank 1 (host h, pid 101) is outside all collectives while the others wait");
}

TEST_F(HangReportTest, ARankThatComputesOnIsWaitedForInWhatItHasBegun) {
  auto ranks = make_ranks(2);
  for (SeenRank& rank : ranks) {
    call(rank, "expert parallel", "all-to-all", "second chunk").under_way = rank.state.rank == 1;
  }
  EXPECT_EQ(odd_one_out(ranks),
            "rank 1 (host h, pid 101) is outside all collectives while the others wait");
}

TEST_F(HangReportTest, WhatDoesNotArriveIsTheNetworksFault) {
  auto ranks = make_ranks(4);
  for (SeenRank& rank : ranks) {
    const bool inside = rank.state.rank != 2;
    call(rank, "world", "all-reduce", "gradients", inside ? std::nullopt : std::optional(0.1));
    rank.state.host = rank.state.rank < 2 ? "a" : "b";
    rank.state.status = RankStatus::kHung;
  }
  call(ranks[2], "world", "barrier", "end of the step");
  EXPECT_EQ(odd_one_out(ranks),
            "ranks 0, 1, 3 wait in all-reduce #2 \"gradients\" of world, which ranks 0, 1, 2, 3 "
            "have called: what was sent does not arrive; look at the network between hosts a, b");
  ranks[3].state.status = RankStatus::kRunning;  // its watchdog does not run: not the network
  EXPECT_EQ(odd_one_out(ranks).find("network"), std::string::npos);
}

TEST_F(HangReportTest, OnlyTheRankAtTheEndOfTheChainIsNamed) {
  // Rank 1 waits for nobody; rank 0 waits for it in their group, 2 and 3 for both in the world.
  auto ranks = make_ranks(4);
  call(ranks[0], "expert parallel", "all-to-all", "combine in layer 0");
  for (const int rank : {2, 3}) {
    call(ranks[rank], "expert parallel", "all-to-all", "combine in layer 0", 0.1);
    call(ranks[rank], "world", "all-reduce", "gradients");
  }
  EXPECT_EQ(odd_one_out(ranks),
            "rank 1 (host h, pid 101) is outside all collectives while the others wait");
}

TEST_F(HangReportTest, ASkippedCollectiveIsFoundByItsNumber) {
  auto ranks = make_ranks(4);
  for (const int rank : {0, 1, 3}) call(ranks[rank], "world", "all-reduce", "gradients");
  call(ranks[2], "world", "barrier", "end of the step");
  EXPECT_EQ(odd_one_out(ranks),
            "rank 2 (host h, pid 102) called barrier #2 \"end of the step\" of world, 0 bytes, "
            "ranks 0, 1, 3 called all-reduce #2 \"gradients\" of world, 0 bytes: one skipped a "
            "collective or called another");
}

TEST_F(HangReportTest, TheFirstDifferenceCounts) {
  // The two of a group that went past it are not at the place where it began.
  auto ranks = make_ranks(2);
  call(ranks[0], "world", "all-reduce", "gradients", 0.1);
  call(ranks[1], "world", "all-reduce", "sums", 0.1);
  for (SeenRank& rank : ranks) call(rank, "expert parallel", "all-to-all", "dispatch in layer 1");
  const std::string found = odd_one_out(ranks);
  EXPECT_NE(found.find("rank 0 (host h, pid 100) called all-reduce #2 \"gradients\""),
            std::string::npos)
      << found;
  EXPECT_NE(found.find("rank 1 (host h, pid 101) called all-reduce #2 \"sums\""), std::string::npos)
      << found;
}

TEST_F(HangReportTest, BytesMustAgreeButInAnAllToAll) {
  auto ranks = make_ranks(2);
  for (SeenRank& rank : ranks) {
    call(rank, "expert parallel", "all-to-all", "dispatch in layer 1", 0.1).bytes =
        10 * rank.state.rank;
    call(rank, "world", "all-reduce", "gradients").bytes = 8 + 8 * rank.state.rank;
  }
  const std::string found = odd_one_out(ranks);
  EXPECT_NE(found.find("of world, 8 bytes, rank 1"), std::string::npos) << found;
}

TEST_F(HangReportTest, RowsThatThePeerDoesNotExpectAreNamed) {
  auto ranks = make_ranks(4);
  for (SeenRank& rank : ranks) {
    RecordedCollective& made = call(rank, "expert parallel", "all-to-all", "dispatch in layer 1");
    made.rows_to = made.rows_from = {2, 2};
  }
  ranks[3].state.collectives.back().rows_to = {0, 2};
  EXPECT_EQ(
      odd_one_out(ranks),
      "rank 3 (host h, pid 103) sends 0 rows to rank 2 (host h, pid 102), which expects 2, in "
      "all-to-all #2 \"dispatch in layer 1\" of expert parallel");
}

TEST_F(HangReportTest, ACallOnAnotherCommunicatorIsTheSmallerParty) {
  auto ranks = make_ranks(4);
  for (SeenRank& rank : ranks) rank.state.communicators[1].members = {0, 1, 4};
  for (const int rank : {0, 1, 2}) {
    call(ranks[rank], "expert parallel", "all-to-all", "dispatch in layer 1");
  }
  call(ranks[3], "world", "barrier", "end");
  EXPECT_EQ(odd_one_out(ranks),
            "rank 3 (host h, pid 103) is in barrier #2 \"end\" of world, ranks 0, 1, 2 are in "
            "all-to-all #2 \"dispatch in layer 1\" of expert parallel: they wait for each other, "
            "one skipped a collective");
}

TEST_F(HangReportTest, WhenAllAreAtOnePlaceItSaysSo) {
  auto ranks = make_ranks(2);
  EXPECT_EQ(odd_one_out(ranks), "all ranks are outside all collectives");
  for (SeenRank& rank : ranks) call(rank, "world", "all-reduce", "gradients");
  EXPECT_EQ(odd_one_out(ranks), "all ranks are in all-reduce #2 \"gradients\" of world");
  EXPECT_EQ(odd_one_out({}), "no rank's record can be read");
}

}  // namespace
}  // namespace switchyard
