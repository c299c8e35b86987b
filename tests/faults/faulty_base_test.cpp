// The means by which the other tests of this folder spoil things: do they?

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <stdexcept>

#include "base/error.h"
#include "base/failpoint.h"
#include "base/file.h"
#include "base/scratch_folder.h"
#include "faults/faulty_file_ops.h"

namespace switchyard {
namespace {

using Deed = FileFault::Deed;

TEST(FileFaultTest, IsToldInText) {
  const FileFault once = parse_file_fault("enospc@17");
  EXPECT_EQ(once.deed, Deed::kFail);
  EXPECT_EQ(once.error, ENOSPC);
  EXPECT_EQ(once.at, 17);
  EXPECT_FALSE(once.for_ever);
  const FileFault slow = parse_file_fault("rank=2:path=checkpoints/:sleep=200ms@3+");
  EXPECT_EQ(slow.deed, Deed::kSleep);
  EXPECT_EQ(slow.milliseconds, 200);
  EXPECT_EQ(slow.rank, 2);
  EXPECT_EQ(slow.path, "checkpoints/");
  EXPECT_TRUE(slow.for_ever);
  EXPECT_EQ(parse_file_fault("kill-after@1").deed, Deed::kKillAfter);
  EXPECT_EQ(parse_file_fault("rank=0:count:/tmp/n").count_file, "/tmp/n");
  for (const char* wrong :
       {"", "kill", "kill@", "kill@0", "melt@1", "rank=1", "path=x", "rank=x:"}) {
    EXPECT_THROW(parse_file_fault(wrong), std::invalid_argument) << wrong;
  }
}

TEST(FaultyFileOpsTest, StrikeWhereTheyAreTold) {
  const ScratchFolder folder;
  FileFault fault = parse_file_fault("path=/b:eio@3");  // open, write, fsync
  set_file_fault(fault);
  write_file_atomically(folder / "a", "a");
  EXPECT_EQ(file_ops_counted(), 0);
  const std::string message =
      message_of<DataError>([&] { write_file_atomically(folder / "b", "b"); });
  EXPECT_NE(message.find("cannot fsync"), std::string::npos) << message;
  EXPECT_EQ(struck_file_op(), "fsync");
  write_file_atomically(folder / "b", "b");
  fault.for_ever = true;
  set_file_fault(fault);
  EXPECT_THROW(write_file_atomically(folder / "b", "c"), DataError);
  EXPECT_THROW(write_file_atomically(folder / "b", "c"), DataError);
  set_file_fault({});
  EXPECT_EQ(read_file(folder / "b"), "b");
}

TEST(FaultyFileOpsTest, ShortWritesAndInterruptionsAreGoneOver) {
  const ScratchFolder folder;
  for (const char* text : {"short@2+", "eintr@2", "short@2", "sleep=1ms@1+"}) {
    set_file_fault(parse_file_fault(text));
    write_file_atomically(folder / "a", text);
    EXPECT_EQ(struck_file_op().empty(), false);
    set_file_fault({});
    EXPECT_EQ(read_file(folder / "a"), text);
  }
  set_file_fault(parse_file_fault("eintr@2+"));
  EXPECT_THROW(write_file_atomically(folder / "a", "b"), DataError);
  set_file_fault({});
}

TEST(FaultyFileOpsTest, KillBeforeOrAfterTheCall) {
  const ScratchFolder folder;
  const auto make = [&](const char* text) {
    set_file_fault(parse_file_fault(text));
    make_folder(folder / "a");
  };
  EXPECT_EXIT(make("kill@1"), testing::KilledBySignal(SIGKILL), "");
  EXPECT_FALSE(path_exists(folder / "a"));
  EXPECT_EXIT(make("kill-after@1"), testing::KilledBySignal(SIGKILL), "");
  EXPECT_TRUE(path_exists(folder / "a"));
}

TEST(FaultyFileOpsTest, AFileSystemThatCannotExchangeSwapsByRenames) {
  const ScratchFolder folder;
  write_disk({{"new/", ""}, {"new/x", "new"}, {"old/", ""}, {"old/x", "old"}}, folder.path());
  set_file_fault(parse_file_fault("path=/new:einval@1+"));  // the exchange and the second rename
  EXPECT_THROW(swap_in_folder(folder / "new", folder / "old"), DataError);
  set_file_fault({});
  EXPECT_EQ(read_file(folder / "old/x"), "old");
  EXPECT_EQ(read_file(folder / "new/x"), "new");
  set_file_fault(parse_file_fault("path=/new:einval@1"));
  EXPECT_TRUE(swap_in_folder(folder / "new", folder / "old"));
  EXPECT_EQ(struck_file_op(), "exchange");
  set_file_fault({});
  EXPECT_EQ(read_file(folder / "old/x"), "new");
  EXPECT_EQ(read_file(folder / "new/x"), "old");
  EXPECT_EQ(list_folder(folder.path()).size(), 2u);
}

/// What may be left of some changes to an empty folder after a power cut.
class FileJournalTest : public testing::Test {
 protected:
  FileJournalTest() { record_file_ops(&journal_); }
  ~FileJournalTest() override { record_file_ops(nullptr); }

  Disk after(Fate bytes, Fate names) const {
    return journal_.after_power_cut(journal_.size(),
                                    [=](bool is_names) { return is_names ? names : bytes; });
  }

  ScratchFolder folder_;
  FileJournal journal_{folder_.path()};
};

TEST_F(FileJournalTest, BytesThatAreNotSyncedAreAnything) {
  FileWriter file(folder_ / "a");
  file.append("0123");
  file.flush();
  EXPECT_EQ(after(Fate::kKept, Fate::kKept), (Disk{{"a", "0123"}}));
  EXPECT_EQ(after(Fate::kLost, Fate::kKept), (Disk{{"a", ""}}));
  EXPECT_EQ(after(Fate::kTorn, Fate::kKept), (Disk{{"a", "01"}}));
  EXPECT_EQ(after(Fate::kZeroed, Fate::kKept), (Disk{{"a", std::string(4, '\0')}}));
  EXPECT_NE(after(Fate::kGarbled, Fate::kKept), after(Fate::kKept, Fate::kKept));
  file.fsync();
  EXPECT_EQ(after(Fate::kLost, Fate::kKept), (Disk{{"a", "0123"}}));
  EXPECT_EQ(after(Fate::kLost, Fate::kLost), Disk());
  sync_folder(folder_.path());
  EXPECT_EQ(after(Fate::kLost, Fate::kLost), (Disk{{"a", "0123"}}));
}

TEST_F(FileJournalTest, NamesThatAreNotSyncedAreOldOrNew) {
  make_folder(folder_ / "a");
  write_file_atomically(folder_ / "a/x", "1");
  make_folder(folder_ / "b");
  sync_folder(folder_.path());
  const Disk before{{"a/", ""}, {"a/x", "1"}, {"b/", ""}};
  EXPECT_EQ(after(Fate::kLost, Fate::kLost), before);
  swap_in_folder(folder_ / "a", folder_ / "b");
  EXPECT_EQ(after(Fate::kLost, Fate::kKept), (Disk{{"a/", ""}, {"b/", ""}, {"b/x", "1"}}));
  EXPECT_EQ(after(Fate::kLost, Fate::kLost), before);
  rename_path(folder_ / "b", folder_ / "c");
  EXPECT_EQ(after(Fate::kLost, Fate::kKept), (Disk{{"a/", ""}, {"c/", ""}, {"c/x", "1"}}));
  remove_tree(folder_ / "c");
  EXPECT_EQ(after(Fate::kLost, Fate::kKept), (Disk{{"a/", ""}}));
  EXPECT_EQ(after(Fate::kLost, Fate::kLost), before);
}

TEST_F(FileJournalTest, ASubsetMayKeepTheRemovalAndLoseTheRenameBeforeIt) {
  make_folders(folder_ / "a");
  write_file_atomically(folder_ / "a/x", "1");
  rename_path(folder_ / "a", folder_ / "b");
  remove_tree(folder_ / "b");
  int names = 0;
  const Disk disk = journal_.after_power_cut(
      journal_.size(), [&](bool) { return ++names == 2 ? Fate::kKept : Fate::kLost; });
  EXPECT_EQ(disk, (Disk{{"a/", ""}}));
}

TEST_F(FileJournalTest, ADiskIsWrittenAsItIs) {
  make_folders(folder_ / "a/b");
  write_file_atomically(folder_ / "a/b/x", std::string("1\0002", 3));
  const Disk disk = after(Fate::kLost, Fate::kLost);
  const ScratchFolder copy;
  write_disk(disk, copy.path());
  const FileJournal read_again(copy.path());
  EXPECT_EQ(read_again.after_power_cut(0, [](bool) { return Fate::kKept; }), disk);
}

/// The failpoints are read once, at the first call: in a process of their own.
class FailpointTest : public testing::Test {
 protected:
  FailpointTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
  ~FailpointTest() override { ::unsetenv("SWITCHYARD_FAILPOINTS"); }

  static void set(const char* text) { ::setenv("SWITCHYARD_FAILPOINTS", text, /*overwrite=*/1); }
};

void pass(const char* name, int times) {
  for (int i = 0; i < times; ++i) failpoint(name);
}

TEST_F(FailpointTest, EndTheProcessInEveryWay) {
  const auto ends_with = [](int signal) { return testing::KilledBySignal(signal); };
  set("save=kill");
  EXPECT_EXIT(failpoint("save"), ends_with(SIGKILL), "");
  set("other=kill;save@0=abort");
  EXPECT_EXIT(failpoint("save"), ends_with(SIGABRT), "");
  set("save#2=term");
  EXPECT_EXIT(pass("save", 2), ends_with(SIGTERM), "");
  set("save=exit(3)");
  EXPECT_EXIT(failpoint("save"), testing::ExitedWithCode(3), "");
  set("save=melt");
  EXPECT_EXIT(failpoint("save"), ends_with(SIGABRT), "save=melt");
}

TEST_F(FailpointTest, ThrowOrGoWrongAndSpareWhatIsNotMeant) {
  const auto all_in_order = [] {
    pass("late", 1);  // the second time only
    if (failpoint("nobody") || failpoint("elsewhere")) ::exit(1);
    if (!failpoint("always") || !failpoint("always")) ::exit(2);
    if (!failpoint("once") || failpoint("once")) ::exit(3);
    try {
      failpoint("late");
    } catch (const std::runtime_error& error) {
      if (error.what() != std::string("failpoint late")) ::exit(4);
      try {
        failpoint("memory");
      } catch (const std::bad_alloc&) {
        ::exit(0);
      }
    }
    ::exit(5);
  };
  set("late#2=throw;elsewhere@1=wrong;always#*=wrong;once=wrong;memory=bad_alloc;once=sleep(1)");
  EXPECT_EXIT(all_in_order(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace switchyard
