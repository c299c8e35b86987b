#include "distributed/flight_record.h"

#include <gtest/gtest.h>

#include <numeric>
#include <stdexcept>

#include "base/error.h"
#include "base/file.h"
#include "base/scratch_folder.h"
#include "distributed/rank_state.h"

namespace switchyard {
namespace {

RankState state_of(const FlightRecord& record) { return parse_flight_record(record.text()); }

TEST(FlightRecordTest, SaysWhoItIsAndWhatItDoes) {
  FlightRecord record(2, 4);
  EXPECT_EQ(record.where(), "");
  record.set_step(7);
  record.set_last_checkpoint("runs/r/checkpoints/step-00000005");
  const FlightRecord::Phase phase(record, "forward");
  const RankState state = state_of(record);
  EXPECT_EQ(state.rank, 2);
  EXPECT_EQ(state.world_size, 4);
  EXPECT_EQ(state.pid, ::getpid());
  EXPECT_FALSE(state.host.empty());
  EXPECT_EQ(state.status, RankStatus::kRunning);
  EXPECT_EQ(state.step, 7);
  EXPECT_EQ(state.phase, "forward");
  EXPECT_EQ(state.checkpoint, "runs/r/checkpoints/step-00000005");
  EXPECT_TRUE(state.collectives.empty());
  EXPECT_LT(std::abs(std::chrono::duration<double>(WallClock::now() - state.changed).count()), 60);
  EXPECT_EQ(record.where(), " (step 7, forward; last checkpoint runs/r/checkpoints/step-00000005)");
}

TEST(FlightRecordTest, TheOuterPhaseComesBack) {
  FlightRecord record(0, 1);
  {
    const FlightRecord::Phase outer(record, "evaluate");
    {
      const FlightRecord::Phase inner(record, "forward");
      EXPECT_STREQ(record.phase(), "forward");
    }
    EXPECT_STREQ(record.phase(), "evaluate");
    EXPECT_EQ(state_of(record).phase, "evaluate");
  }
  EXPECT_STREQ(record.phase(), "");
  EXPECT_EQ(record.where(), "");
}

TEST(FlightRecordTest, ThePhaseThatAnExceptionLeftIsRemembered) {
  FlightRecord record(0, 1);
  record.set_step(7);
  const auto fail = [&] {
    const FlightRecord::Phase outer(record, "train");
    const FlightRecord::Phase inner(record, "backward");
    throw std::runtime_error("no");
  };
  EXPECT_THROW(fail(), std::runtime_error);
  EXPECT_STREQ(record.phase(), "");
  EXPECT_EQ(record.where(), " (step 7, backward)");
  const FlightRecord::Phase next(record, "save");  // what was caught is over
  EXPECT_EQ(record.where(), " (step 7, save)");
}

TEST(FlightRecordTest, EveryEventIsASignOfProgress) {
  FlightRecord record(0, 1);
  const int world = record.add_communicator("world", {0, 1, 2});
  uint64_t before = record.changes();
  const auto moved = [&] { return record.changes() > std::exchange(before, record.changes()); };
  EXPECT_FALSE(moved());
  record.set_step(1);
  EXPECT_TRUE(moved());
  const int64_t ticket = record.enter(world, "barrier", "here", 0, nullptr);
  EXPECT_TRUE(moved());
  record.leave(ticket, 0.5);
  EXPECT_TRUE(moved());
  record.touch();
  EXPECT_TRUE(moved());
  { const FlightRecord::Phase phase(record, "save"); }
  EXPECT_TRUE(moved());
}

TEST(FlightRecordTest, CollectivesAreCountedPerCommunicator) {
  FlightRecord record(3, 4);
  const int world = record.add_communicator("world", {0, 1, 4});
  const int expert = record.add_communicator("expert parallel", {2, 1, 2});
  record.leave(record.enter(world, "broadcast", "resume decision", 8, nullptr), 1.25);
  const std::vector<int64_t> to = {3, 0}, from = {12345678901, 2};
  const FlightRecord::Rows rows{to, from};
  record.leave(record.enter(world, "barrier", "warm-up", 0, nullptr), 0.5);
  record.enter(expert, "all-to-all", "dispatch in layer 3", 4096, &rows);

  const RankState state = state_of(record);
  ASSERT_EQ(state.communicators.size(), 2U);
  EXPECT_EQ(state.communicators[1].name, "expert parallel");
  EXPECT_EQ(state.communicators[1].members, (Members{2, 1, 2}));
  ASSERT_EQ(state.collectives.size(), 3U);
  EXPECT_EQ(describe(state.collectives[0]), "broadcast #1 \"resume decision\" of world");
  EXPECT_EQ(state.collectives[0].milliseconds, 1.25);
  EXPECT_EQ(describe(state.collectives[1]), "barrier #2 \"warm-up\" of world");
  const RecordedCollective& last = state.collectives[2];
  EXPECT_EQ(describe(last), "all-to-all #1 \"dispatch in layer 3\" of expert parallel");
  EXPECT_EQ(last.bytes, 4096);
  EXPECT_EQ(last.rows_to, to);
  EXPECT_EQ(last.rows_from, from);
  EXPECT_FALSE(last.rows_cut);
  EXPECT_EQ(last.milliseconds, std::nullopt);
  EXPECT_EQ(state.inside(), &last);
  EXPECT_EQ(state.changed, last.entered);
}

TEST(FlightRecordTest, TheRingKeepsTheLast256) {
  FlightRecord record(0, 1);
  const int world = record.add_communicator("world", {0, 1, 1});
  for (int i = 1; i <= 300; ++i) {
    record.leave(
        record.enter(world, "barrier", ("number " + std::to_string(i)).c_str(), i, nullptr), i);
  }
  const RankState state = state_of(record);
  ASSERT_EQ(state.collectives.size(), 256U);
  for (int i = 0; i < 256; ++i) {
    EXPECT_EQ(state.collectives[i].number, 45 + i);
    EXPECT_EQ(state.collectives[i].purpose, "number " + std::to_string(45 + i));
    EXPECT_EQ(state.collectives[i].milliseconds, 45 + i);
  }
  EXPECT_EQ(state.inside(), nullptr);
}

TEST(FlightRecordTest, ACollectiveUnderWayIsNotWhereTheRankIs) {
  FlightRecord record(0, 1);
  const int expert = record.add_communicator("expert parallel", {0, 1, 1});
  const int64_t first = record.enter(expert, "all-to-all", "first chunk", 8, nullptr);
  record.step_out(first);
  const int64_t second = record.enter(expert, "all-to-all", "second chunk", 8, nullptr);
  record.step_out(second);
  const RankState outside = state_of(record);
  EXPECT_EQ(outside.inside(), nullptr);
  EXPECT_TRUE(outside.collectives[0].under_way);
  EXPECT_EQ(outside.collectives[0].milliseconds, std::nullopt);
  record.step_in(first);
  const RankState waiting = state_of(record);
  ASSERT_NE(waiting.inside(), nullptr);
  EXPECT_EQ(waiting.inside()->purpose, "first chunk");
  const uint64_t changes = record.changes();
  record.leave(first, 1.5);
  EXPECT_GT(record.changes(), changes);
  const RankState after = state_of(record);
  EXPECT_EQ(after.inside(), nullptr);
  EXPECT_EQ(after.collectives[0].milliseconds, 1.5);
  EXPECT_FALSE(after.collectives[0].under_way);
  EXPECT_TRUE(after.collectives[1].under_way);
}

TEST(FlightRecordTest, ALongOneDoesNotWriteIntoTheRowOfAnother) {
  FlightRecord record(0, 1);
  const int world = record.add_communicator("world", {0, 1, 1});
  const int64_t first = record.enter(world, "all-to-all", "long", 8, nullptr);
  record.step_out(first);
  for (int i = 0; i < 256; ++i) {
    record.leave(record.enter(world, "barrier", "short", 0, nullptr), 2.5);
  }
  record.step_in(first);
  record.leave(first, 99);
  for (const RecordedCollective& call : state_of(record).collectives) {
    EXPECT_EQ(call.purpose, "short");
    EXPECT_EQ(call.milliseconds, 2.5);
  }
}

TEST(FlightRecordTest, RowsOfABigWorldAreCutShort) {
  FlightRecord record(0, 64);
  const int expert = record.add_communicator("expert parallel", {0, 1, 64});
  std::vector<int64_t> to(64), from(64, 1);
  std::iota(to.begin(), to.end(), 1000);
  const FlightRecord::Rows rows{to, from};
  record.enter(expert, "all-to-all", std::string(100, 'p').c_str(), 1, &rows);
  const RecordedCollective seen = state_of(record).collectives.back();
  EXPECT_TRUE(seen.rows_cut);
  EXPECT_EQ(seen.purpose, std::string(48, 'p'));
  ASSERT_GE(seen.rows_to.size(), 8U);
  ASSERT_LT(seen.rows_to.size(), 64U);
  for (size_t i = 0; i < seen.rows_to.size(); ++i) EXPECT_EQ(seen.rows_to[i], to[i]);
  const std::string text = describe(state_of(record), WallClock::now());
  EXPECT_NE(text.find("rows to [1000 1001 "), std::string::npos) << text;
  EXPECT_NE(text.find(" ...] from [1 1 "), std::string::npos) << text;
}

TEST(FlightRecordTest, ACommunicatorMadeAnewStartsOver) {
  FlightRecord record(0, 4);
  const int world = record.add_communicator("world", {0, 1, 4});
  const int expert = record.add_communicator("expert parallel", {0, 1, 2});
  record.leave(record.enter(world, "barrier", "a", 0, nullptr), 1);
  record.leave(record.enter(expert, "barrier", "b", 0, nullptr), 1);
  const int again = record.add_communicator("expert parallel", {0, 1, 4});
  record.enter(again, "barrier", "c", 0, nullptr);
  const RankState state = state_of(record);
  ASSERT_EQ(state.communicators.size(), 2U);
  EXPECT_EQ(state.communicators[1].members, (Members{0, 1, 4}));
  ASSERT_EQ(state.collectives.size(), 2U);
  EXPECT_EQ(describe(state.collectives[0]), "barrier #1 \"a\" of world");
  EXPECT_EQ(describe(state.collectives[1]), "barrier #1 \"c\" of expert parallel");
}

TEST(FlightRecordTest, TheFileIsTheRecordAtAnyTime) {
  const ScratchFolder scratch;
  const std::string folder = scratch / "runs/r/flight";
  FlightRecord record(3, 4);
  record.set_step(1);
  record.open(folder);
  const std::string path = record_path(folder, 3);
  EXPECT_EQ(path, folder + "/rank-00003.txt");
  EXPECT_EQ(read_file(path), record.text());
  record.set_step(2);
  record.set_status(RankStatus::kHung);
  EXPECT_EQ(read_file(path), record.text());
  const RankState state = parse_flight_record(read_file(path));
  EXPECT_EQ(state.step, 2);
  EXPECT_EQ(state.status, RankStatus::kHung);
}

TEST(FlightRecordTest, TheRecordOfTheRunBeforeIsKept) {
  const ScratchFolder scratch;
  const std::string folder = scratch / "flight";
  {
    FlightRecord earlier(0, 1);
    earlier.open(folder);
    earlier.set_step(41);
  }
  FlightRecord record(0, 1);
  record.open(folder);
  EXPECT_EQ(parse_flight_record(read_file(record_path(folder, 0))).step, 0);
  EXPECT_EQ(parse_flight_record(read_file(folder + "/rank-00000.previous.txt")).step, 41);
}

TEST(FlightRecordTest, WhatIsNoRecordIsRefused) {
  EXPECT_THROW(parse_flight_record(""), DataError);
  EXPECT_THROW(parse_flight_record(std::string(100'000, 'x')), DataError);
  std::string torn = FlightRecord(0, 1).text();
  for (size_t i = 100; i < torn.size(); i += 7) torn[i] = static_cast<char>(i * 31);
  EXPECT_NO_THROW(parse_flight_record(torn));
  torn.pop_back();
  EXPECT_THROW(parse_flight_record(torn), DataError);
}

TEST(FlightRecordTest, ALineTellsWhereARankIs) {
  FlightRecord record(2, 4);
  const int expert = record.add_communicator("expert parallel", {2, 1, 2});
  record.set_step(7);
  const FlightRecord::Phase phase(record, "forward");
  const std::vector<int64_t> to = {1, 2}, from = {3, 4};
  const FlightRecord::Rows rows{to, from};
  const int64_t ticket = record.enter(expert, "all-to-all", "dispatch in layer 3", 4096, &rows);
  RankState state = state_of(record);
  state.host = "h";
  state.pid = 123;
  EXPECT_EQ(describe(state, state.changed + std::chrono::seconds(3)),
            "rank 2 (host h, pid 123): step 7, forward, 3.0 s in all-to-all #1 \"dispatch in layer "
            "3\" of expert parallel, 4096 bytes, rows to [1 2] from [3 4]");
  record.leave(ticket, 2);
  const std::string outside = describe(state_of(record), WallClock::now());
  EXPECT_NE(outside.find(": step 7, forward, outside any collective since 0."), std::string::npos)
      << outside;
  EXPECT_NE(outside.find(", last in all-to-all #1 \"dispatch in layer 3\" of expert parallel"),
            std::string::npos)
      << outside;
}

}  // namespace
}  // namespace switchyard
