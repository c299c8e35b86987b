// Every file operation of a save and the retention after it fails in turn, or is the
// last one before the process dies; so does every one of a resume.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>

#include "checkpoint/retention.h"
#include "checkpoint/verify_checkpoint.h"
#include "faults/fault_cases.h"
#include "faults/variants.h"

namespace switchyard {
namespace {

using Deed = FileFault::Deed;

/// Two checkpoints that are there before, as on a disk.
Disk disk_before(int world) {
  const MemoryFolder folder;
  for (const int step : {1, 2}) {
    EXPECT_EQ(save_variant(folder.path(), step, step, world),
              std::vector<std::string>(world, std::string()));
  }
  return disk_at(folder.path());
}

constexpr const char* kOlder = "step 1, variant 1";
constexpr const char* kBefore = "step 2, variant 2";

/// What is saved over it: a new step, or the newest one again.
struct Attempt {
  int64_t step;
  std::string what() const { return "step " + std::to_string(step) + ", variant 9"; }
};

/// Saves, then retains one; returns what the ranks threw, "" when saved.
std::string save_and_retain(const std::string& dir, int64_t step, int world) {
  const std::vector<std::string> thrown = save_variant(dir, step, 9, world);
  EXPECT_EQ(thrown, std::vector<std::string>(world, thrown[0])) << "all ranks throw the same";
  if (!thrown[0].empty()) return thrown[0];
  try {
    retain(dir, 1);
  } catch (const DataError&) {  // of no consequence for what was saved
  }
  return "";
}

bool has_temporary(const std::string& dir) {
  for (const std::string& name : list_folder(dir)) {
    if (name.find(".tmp-") != std::string::npos) return true;
  }
  return false;
}

class FailingOpsTest : public testing::TestWithParam<std::tuple<int, FaultCase>> {
 protected:
  /// Until a save meets no fault.
  void fail_in_turn(const Attempt& attempt) {
    const int64_t stride = stride_of(fault_);
    int64_t at = 1;
    while (save_with_fault_at(at, attempt)) at += stride;
    std::cout << (at - 1) / stride << " operations failed in turn" << std::endl;
  }

 private:
  /// One save with the fault in operation `at`; whether the fault struck.
  bool save_with_fault_at(int64_t at, const Attempt& attempt) {
    const MemoryFolder folder;
    write_disk(before_, folder.path());
    FileJournal journal(folder.path());
    record_file_ops(&journal);
    std::string thrown;
    const Struck struck = with_fault(
        fault_, at, [&] { thrown = save_and_retain(folder.path(), attempt.step, world_); });
    SCOPED_TRACE(describe(at, struck) + ": " + thrown);

    expect_old_or_new(folder.path(), attempt, thrown.empty());
    expect_message(folder.path(), thrown, struck);
    expect_no_temporary(folder.path(), thrown, struck.op);
    expect_durable(journal, attempt, thrown.empty());
    remove_abandoned(folder.path());
    expect_durable(journal, attempt, thrown.empty());
    record_file_ops(nullptr);
    if (struck.any()) expect_next_save(folder.path());
    return struck.any();
  }

  const int world_ = std::get<0>(GetParam());
  const FaultCase fault_ = std::get<1>(GetParam());
  const Disk before_ = disk_before(world_);

  /// A save that failed may have got as far as being there, whole, but one that
  /// returned is there.
  static void expect_old_or_new(const std::string& dir, const Attempt& attempt, bool saved) {
    const std::string newest = describe_newest(dir);
    if (saved || newest != kBefore) {
      EXPECT_EQ(newest, attempt.what());
    }
    EXPECT_EQ(describe_resolved(dir).substr(0, 4), "step");
  }

  /// What was not saved is told, with the file; of what is in place, what is in doubt.
  void expect_message(const std::string& dir, const std::string& thrown,
                      const Struck& struck) const {
    if (!struck.any() || fault_.is_gone_over(struck.op)) {
      EXPECT_EQ(thrown, "");
    }
    if (thrown.empty()) return;
    const bool in_place = describe_newest(dir) != kBefore;
    const std::string beginning = in_place ? dir + "/step-" : "the checkpoint was not saved: ";
    EXPECT_TRUE(thrown.starts_with(beginning));
    if (in_place) {
      EXPECT_TRUE(thrown.find(" is in place, but may not outlive") != std::string::npos ||
                  thrown.find(" is saved, but `latest` may not name it") != std::string::npos);
    }
    expect_names(fault_, dir, struck, thrown);
  }

  /// After one failure nothing temporary stays, unless it was the removal that
  /// failed, or the folder holds what the new one has replaced.
  void expect_no_temporary(const std::string& dir, const std::string& thrown,
                           const std::string& struck) const {
    if (fault_.for_ever || struck == "unlink" || struck == "rmdir") return;
    const bool in_place = !thrown.empty() && describe_newest(dir) != kBefore;
    const bool of_retention = thrown.empty() && !struck.empty();
    if (!in_place && !of_retention) {
      EXPECT_FALSE(has_temporary(dir));
    }
  }

  /// The power goes once all is done: with all that nobody waited for, without any of
  /// it, and with some of it.
  static void expect_durable(const FileJournal& journal, const Attempt& attempt, bool saved) {
    for (int seed = 0; seed < 6; ++seed) {
      std::mt19937_64 random(seed);
      const auto choose = [&](bool is_names) {
        if (!is_names) return Fate::kGarbled;
        const bool is_kept = seed == 0 || (seed > 1 && random() % 2 == 0);
        return is_kept ? Fate::kKept : Fate::kLost;
      };
      const MemoryFolder after;
      write_disk(journal.after_power_cut(journal.size(), choose), after.path());
      expect_old_or_new(after.path(), attempt, saved);
    }
  }

  void expect_next_save(const std::string& dir) const {
    EXPECT_EQ(save_variant(dir, 7, 7, world_), std::vector<std::string>(world_, std::string()));
    EXPECT_EQ(describe_newest(dir), "step 7, variant 7");
  }
};

TEST_P(FailingOpsTest, ANewStepIsThereOrNotAtAll) { fail_in_turn(Attempt{3}); }

TEST_P(FailingOpsTest, AStepSavedAgainIsTheOldOrTheNew) { fail_in_turn(Attempt{2}); }

INSTANTIATE_TEST_SUITE_P(RanksAndFaults, FailingOpsTest,
                         testing::Combine(testing::Values(1, 2), kFaultCases),
                         [](const auto& tested) {
                           return std::string(std::get<1>(tested.param).name) + "On" +
                                  std::to_string(std::get<0>(tested.param));
                         });

class KilledInOpTest : public testing::TestWithParam<int> {};

/// Runs `action` in a child; whether SIGKILL ended it.
template <typename Action>
bool is_killed(Action&& action) {
  const pid_t child = ::fork();
  if (child == 0) {
    action();
    ::_exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/// A save of `attempt` that is killed in operation `at`; whether it got so far.
bool killed_in(Deed deed, int64_t at, const Attempt& attempt, const Disk& before, int world) {
  const MemoryFolder folder;
  write_disk(before, folder.path());
  const bool killed = is_killed([&] {
    FileFault fault;
    fault.deed = deed;
    fault.at = at;
    set_file_fault(fault);
    EXPECT_EQ(save_and_retain(folder.path(), attempt.step, world), "");
  });
  SCOPED_TRACE("operation " + std::to_string(at));
  const std::string newest = describe_newest(folder.path());
  if (newest != kBefore || !killed) {
    EXPECT_EQ(newest, attempt.what());
  }
  EXPECT_EQ(describe_resolved(folder.path()).substr(0, 4), "step");
  remove_abandoned(folder.path());
  EXPECT_EQ(describe_newest(folder.path()), newest);
  return killed;
}

TEST_P(KilledInOpTest, TheOldOrTheNewIsThere) {
  const Disk before = disk_before(GetParam());
  for (const Attempt attempt : {Attempt{3}, Attempt{2}}) {
    for (const Deed deed : {Deed::kKill, Deed::kKillAfter}) {
      const int64_t stride = is_torture() ? 1 : 5;
      int64_t at = 1;
      while (killed_in(deed, at, attempt, before, GetParam())) at += stride;
      std::cout << (at - 1) / stride << " operations killed in turn" << std::endl;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, KilledInOpTest, testing::Values(1, 2));

/// What a rank that goes on from the newest checkpoint got.
struct Resumed {
  std::string what;  // see describe; "" when it threw
  std::vector<std::string> complaints;
  std::string thrown;
};

/// As a run does: the ranks verify together, then each reads for itself.
std::vector<Resumed> resume(const std::string& dir, int world) {
  std::vector<Resumed> ranks(world);
  const std::vector<std::string> thrown = run_ranks(world, [&](Communicator& communicator) {
    Resumed& mine = ranks[communicator.rank()];
    try {
      const std::string newest = newest_valid(communicator, dir, &mine.complaints);
      mine.what = describe(newest, Digests::kTrust);
    } catch (const DataError& error) {
      mine.thrown = error.what();
    }
  });
  EXPECT_EQ(thrown, std::vector<std::string>(world)) << "nothing but DataError is thrown";
  return ranks;
}

/// What a command that is given the folder gets.
Resumed resolve(const std::string& dir) {
  Resumed mine;
  try {
    mine.what = describe(resolve_checkpoint(dir));
  } catch (const DataError& error) {
    mine.thrown = error.what();
  }
  return mine;
}

/// The newest checkpoint, bit for bit; or the one before it, or an error, and then the
/// file is named; never something else.
class FailingReadsTest : public testing::TestWithParam<std::tuple<int, FaultCase>> {
 protected:
  void expect_right(const Resumed& got, const Struck& struck) const {
    if (!got.thrown.empty()) {
      expect_names(fault_, folder_.path(), struck, got.thrown);
      EXPECT_EQ(got.what, "");
      return;
    }
    if (!struck.any() || fault_.is_gone_over(struck.op)) {
      EXPECT_EQ(got.what, kBefore);
      EXPECT_TRUE(got.complaints.empty());
    }
    EXPECT_TRUE(got.what == kBefore || got.what == kOlder) << got.what;
    for (const std::string& complaint : got.complaints) {
      expect_names(fault_, folder_.path(), struck, complaint);
    }
  }

  /// Until nothing fails any more, and then nothing on the disk has changed.
  template <typename Attempt>
  void fail_in_turn(Attempt&& attempt) {
    write_disk(disk_before(world_), folder_.path());
    const Disk before = disk_at(folder_.path());
    const int64_t stride = stride_of(fault_);
    int64_t at = 1 - stride;
    Struck struck;
    do {
      at += stride;
      struck = with_fault(fault_, at, [&] { attempt(); });
      SCOPED_TRACE(describe(at, struck));
      for (const Resumed& got : got_) expect_right(got, struck);
    } while (struck.any());
    EXPECT_EQ(disk_at(folder_.path()), before);
    std::cout << (at - 1) / stride << " operations failed in turn" << std::endl;
  }

  const int world_ = std::get<0>(GetParam());
  const FaultCase fault_ = std::get<1>(GetParam());
  const MemoryFolder folder_;
  std::vector<Resumed> got_;  // by rank
};

TEST_P(FailingReadsTest, OfAResumeGiveNothingElse) {
  fail_in_turn([&] {
    got_ = resume(folder_.path(), world_);
    for (const Resumed& got : got_) {
      EXPECT_EQ(got.complaints, got_[0].complaints) << "the ranks decide together";
      EXPECT_TRUE(got.what != kOlder || got.complaints.size() == 1) << got.complaints.size();
    }
  });
}

/// Which say nothing of what they pass over.
TEST_P(FailingReadsTest, OfCommandsGiveNothingElse) {
  if (world_ == 1) fail_in_turn([&] { got_ = {resolve(folder_.path())}; });
}

TEST_P(FailingReadsTest, OfVerifyAreFaults) {
  write_disk(disk_before(world_), folder_.path());
  int64_t at = 1 - stride_of(fault_);
  Struck struck;
  do {
    at += stride_of(fault_);
    std::vector<std::string> problems;
    struck = with_fault(fault_, at, [&] {
      for (int part = 0; part < world_; ++part) {
        for (const std::string& problem :
             verify_checkpoint(folder_ / "step-00000002", part, world_)) {
          problems.push_back(problem);
        }
      }
    });
    SCOPED_TRACE(describe(at, struck));
    if (!struck.any() || fault_.is_gone_over(struck.op)) {
      EXPECT_TRUE(problems.empty());
    } else if (struck.op != "close") {  // nothing depends on closing what was read
      EXPECT_FALSE(problems.empty());
    }
    for (const std::string& problem : problems) {
      expect_names(fault_, folder_.path(), struck, problem);
    }
  } while (struck.any());
}

INSTANTIATE_TEST_SUITE_P(RanksAndFaults, FailingReadsTest,
                         testing::Combine(testing::Values(1, 2), kFaultCases),
                         [](const auto& tested) {
                           return std::string(std::get<1>(tested.param).name) + "On" +
                                  std::to_string(std::get<0>(tested.param));
                         });

}  // namespace
}  // namespace switchyard
