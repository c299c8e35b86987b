#include "checkpoint/retention.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/sample_folder.h"

namespace switchyard {
namespace {

using Steps = std::vector<int64_t>;

/// A checkpoints folder with steps 1 to `count`.
class RetentionTest : public testing::Test {
 protected:
  void save_steps(int count) {
    for (int step = 1; step <= count; ++step) save_sample(dir(), step, 1);
  }
  std::string step_dir(int64_t step) const { return dir() + "/" + step_folder_name(step); }
  std::string dir() const { return folder_.path(); }
  /// A flipped bit in a tensor: it opens, and only its digest tells.
  void rot(int64_t step) const {
    const Manifest manifest = CheckpointReader(step_dir(step)).manifest();
    const Slice& slice = manifest.tensors[0].slices[0];
    flip_bit(step_dir(step) + "/" + manifest.shards[slice.shard].name, slice.offset, 2);
  }
  /// "step: reason" of what stays, without the folder.
  std::vector<std::string> kept(const Retention& retention) const {
    std::vector<std::string> texts;
    for (const KeptFolder& folder : retention.kept) {
      texts.push_back(folder.folder.substr(dir().size() + 1) + ": " + folder.reason);
    }
    return texts;
  }

 private:
  ScratchFolder folder_;
};

TEST_F(RetentionTest, KeepsTheNewest) {
  save_steps(5);
  EXPECT_EQ(retain(dir(), 3), (std::vector<std::string>{step_dir(1), step_dir(2)}));
  EXPECT_EQ(list_steps(dir()), (Steps{5, 4, 3}));
  EXPECT_EQ(list_folder(dir()).size(), 4u) << "nothing temporary stays";
}

TEST_F(RetentionTest, ZeroKeepsAllAndOneKeepsOne) {
  save_steps(3);
  EXPECT_TRUE(retain(dir(), 0).empty());
  EXPECT_EQ(list_steps(dir()), (Steps{3, 2, 1}));
  retain(dir(), 1);
  EXPECT_EQ(list_steps(dir()), (Steps{3}));
}

TEST_F(RetentionTest, DamagedOnesDoNotCountAndStay) {
  save_steps(4);
  flip_bit(step_dir(4) + "/manifest.json", 30, 0);
  flip_bit(step_dir(1) + "/manifest.json", 30, 0);
  retain(dir(), 1);
  EXPECT_EQ(list_steps(dir()), (Steps{4, 3, 1}));
}

TEST_F(RetentionTest, KeepsTheOneThatLatestNames) {
  save_steps(4);
  write_file_atomically(dir() + "/latest", "step-00000002\n");
  retain(dir(), 1);
  EXPECT_EQ(list_steps(dir()), (Steps{4, 2}));
}

TEST_F(RetentionTest, NeverTouchesWhatItDidNotWrite) {
  save_steps(1);
  make_folder(step_dir(0));
  write_file_atomically(step_dir(0) + "/manifest.json", "{\"format\": \"another\"}");
  rename_path(step_dir(1), dir() + "/archive");
  std::filesystem::create_symlink("archive", step_dir(1));
  save_sample(dir(), 2, 1);
  EXPECT_TRUE(retain(dir(), 1).empty());
  EXPECT_EQ(list_steps(dir()), (Steps{2, 1, 0}));
}

TEST_F(RetentionTest, ACheckpointWithAFileOfTheUsersStays) {
  save_steps(3);
  write_file_atomically(step_dir(1) + "/notes.txt", "the good one");
  EXPECT_EQ(retain(dir(), 1), std::vector<std::string>{step_dir(2)});
  EXPECT_EQ(list_steps(dir()), (Steps{3, 1}));
}

TEST_F(RetentionTest, ThePlanSaysWhyEachStays) {
  save_steps(5);
  write_file_atomically(dir() + "/latest", "step-00000003\n");
  write_file_atomically(step_dir(2) + "/notes.txt", "the good one");
  rename_path(step_dir(1), dir() + "/archive");
  std::filesystem::create_symlink("archive", step_dir(1));
  const Retention plan = plan_retention(dir(), 1, Assurance::kVerify);
  EXPECT_EQ(plan.doomed, std::vector<std::string>{step_dir(4)});
  EXPECT_EQ(kept(plan),
            (std::vector<std::string>{
                "step-00000005: one of the newest 1", "step-00000003: `latest` names it",
                "step-00000002: holds notes.txt, which no save has written",
                "step-00000001: a symbolic link", "archive: not a checkpoint's name"}));
  EXPECT_EQ(list_steps(dir()), (Steps{5, 4, 3, 2, 1})) << "a plan deletes nothing";
  delete_checkpoints(plan.doomed);
  EXPECT_EQ(list_steps(dir()), (Steps{5, 3, 2, 1}));
}

TEST_F(RetentionTest, VerifyingKeepsOneThatIsWholeWhenTheNewestHasRotted) {
  save_steps(5);
  rot(5);
  rot(4);
  const Retention plan = plan_retention(dir(), 1, Assurance::kVerify);
  EXPECT_EQ(plan.doomed, (std::vector<std::string>{step_dir(1), step_dir(2)}));
  ASSERT_EQ(plan.kept.size(), 3u);
  EXPECT_NE(plan.kept[0].reason.find("damaged: "), std::string::npos);
  EXPECT_NE(plan.kept[1].reason.find("damaged: "), std::string::npos);
  EXPECT_EQ(kept(plan)[2], "step-00000003: one of the newest 1");
}

TEST_F(RetentionTest, WhenNoneIsWholeNoneIsDeleted) {
  save_steps(3);
  for (const int64_t step : {1, 2, 3}) rot(step);
  EXPECT_TRUE(plan_retention(dir(), 1, Assurance::kVerify).doomed.empty());
}

TEST_F(RetentionTest, WithoutVerifyingThePublishedOneStaysWhateverElseHasRotted) {
  save_steps(2);
  save_sample(dir(), 9, 1);
  rot(9);
  save_sample(dir(), 3, 1);  // publishes it
  retain(dir(), 1);
  EXPECT_EQ(list_steps(dir()), (Steps{9, 3}));
}

TEST_F(RetentionTest, AnEmptyFolderHasNothingToDelete) {
  EXPECT_TRUE(retain(dir(), 1).empty());
  EXPECT_TRUE(retain(dir() + "/nothing", 1).empty());
}

TEST_F(RetentionTest, AbandonedFoldersAreRemoved) {
  save_steps(1);
  const std::string abandoned = step_dir(2) + ".tmp-" + random_save_id();
  make_folder(abandoned);
  make_folder(dir() + "/mine.tmp-1");
  const std::string link = "step-00000003.tmp-" + random_save_id();
  std::filesystem::create_symlink("mine.tmp-1", dir() + "/" + link);
  EXPECT_EQ(remove_abandoned(dir()), std::vector<std::string>{abandoned});
  EXPECT_EQ(list_folder(dir()),
            (std::vector<std::string>{"latest", "mine.tmp-1", "step-00000001", link}));
  EXPECT_TRUE(remove_abandoned(dir() + "/nothing").empty());
}

}  // namespace
}  // namespace switchyard
