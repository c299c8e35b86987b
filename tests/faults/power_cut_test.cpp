// The power goes: what save_checkpoint, retain and remove_abandoned have done by then
// is cut after every change, and what nobody has waited for is kept, lost or spoilt.

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "base/checksum.h"
#include "checkpoint/retention.h"
#include "checkpoint/verify_checkpoint.h"
#include "faults/faulty_file_ops.h"
#include "faults/variants.h"

namespace switchyard {
namespace {

constexpr const char* kCheckpoints = "/runs/a/checkpoints";

/// A save, and the changes before which it began and after which it had returned.
struct Saved {
  std::string what;
  size_t began;
  size_t returned;
};

/// A run's life: first saves, retention, a step saved again, retention of several.
class History {
 public:
  explicit History(int world) : world_(world), journal_(folder_.path()) {
    record_file_ops(&journal_);
    save(1, 1);
    save(2, 2);
    retain(dir(), 1);
    save(2, 3);
    save(3, 4);
    save(4, 5);
    retain(dir(), 1);
    remove_abandoned(dir());
    record_file_ops(nullptr);
  }

  size_t changes() const { return journal_.size(); }

  /// Cuts the power after `count` changes, and looks at what is left.
  void expect_whole(size_t count, const ChooseFate& choose) {
    const Disk disk = journal_.after_power_cut(count, choose);
    const std::set<std::string> allowed = allowed_after(count);
    ++cuts_;
    if (!tried_.insert(digest(disk, allowed)).second) return;
    const MemoryFolder after;
    write_disk(disk, after.path());
    const std::string dir = after.path() + kCheckpoints;
    const std::string newest = describe_newest(dir);
    EXPECT_TRUE(allowed.contains(newest)) << "after " << count << " changes: " << newest;
    const std::string latest = describe_latest(dir);
    EXPECT_TRUE(allowed.contains(latest)) << "after " << count << " changes: " << latest;
    for (const int64_t step : list_steps(dir)) {  // not even of one that retention has deleted
      EXPECT_TRUE(verify_checkpoint(dir + "/" + step_folder_name(step)).empty())
          << "after " << count << " changes half of step " << step << " is there";
    }
    if (newest.empty()) return;
    EXPECT_EQ(describe_resolved(dir).substr(0, 4), "step") << "after " << count << " changes";
  }

  /// "<cuts> power cuts, <disks> different disks".
  std::string summary() const {
    return std::to_string(journal_.size()) + " changes, " + std::to_string(cuts_) +
           " power cuts, " + std::to_string(tried_.size()) + " different disks";
  }

 private:
  std::string dir() const { return folder_.path() + kCheckpoints; }

  void save(int64_t step, int variant) {
    const size_t began = journal_.size();
    for (const std::string& thrown : save_variant(dir(), step, variant, world_)) {
      EXPECT_EQ(thrown, "");
    }
    saves_.push_back({describe_newest(dir()), began, journal_.size()});
    EXPECT_EQ(saves_.back().what,
              "step " + std::to_string(step) + ", variant " + std::to_string(variant));
  }

  /// The last save that had returned, or one that had begun since; nothing only while
  /// none had returned.
  std::set<std::string> allowed_after(size_t count) const {
    std::set<std::string> allowed{""};
    for (const Saved& save : saves_) {
      if (save.returned <= count) allowed.clear();
      if (save.began < count) allowed.insert(save.what);
    }
    return allowed;
  }

  static uint64_t digest(const Disk& disk, const std::set<std::string>& allowed) {
    Xxh3Stream stream;
    const auto add = [&](const std::string& text) {
      const size_t bytes = text.size();
      stream.update(&bytes, sizeof(bytes));
      stream.update(text.data(), bytes);
    };
    for (const auto& [path, bytes] : disk) add(path), add(bytes);
    for (const std::string& what : allowed) add(what);
    return stream.digest();
  }

  int world_;
  MemoryFolder folder_;
  FileJournal journal_;
  std::vector<Saved> saves_;
  std::set<uint64_t> tried_;
  size_t cuts_ = 0;
};

class PowerCutTest : public testing::TestWithParam<int> {};

TEST_P(PowerCutTest, AfterEveryChangeWithEveryFateOfBytesAndNames) {
  History history(GetParam());
  for (size_t count = 0; count <= history.changes(); ++count) {
    for (const Fate bytes :
         {Fate::kKept, Fate::kLost, Fate::kTorn, Fate::kZeroed, Fate::kGarbled}) {
      for (const Fate names : {Fate::kKept, Fate::kLost}) {
        history.expect_whole(count, [&](bool is_names) { return is_names ? names : bytes; });
      }
    }
  }
  std::cout << history.summary() << std::endl;
}

TEST_P(PowerCutTest, AnySubsetOfWhatNobodyWaitedFor) {
  History history(GetParam());
  const int subsets = is_torture() ? 10000 : 500;
  for (int seed = 0; seed < subsets; ++seed) {
    std::mt19937_64 random(seed);
    const size_t count = random() % (history.changes() + 1);
    const uint64_t lost_of_four = 1 + random() % 3;
    history.expect_whole(count, [&](bool is_names) {
      if (is_names) return random() % 4 < lost_of_four ? Fate::kLost : Fate::kKept;
      return static_cast<Fate>(random() % 5);
    });
  }
  std::cout << history.summary() << std::endl;
}

INSTANTIATE_TEST_SUITE_P(Ranks, PowerCutTest, testing::Values(1, 2));

}  // namespace
}  // namespace switchyard
