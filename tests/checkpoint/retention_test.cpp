#include "checkpoint/retention.h"

#include <gtest/gtest.h>

#include <filesystem>

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

TEST_F(RetentionTest, AnEmptyFolderHasNothingToDelete) {
  EXPECT_TRUE(retain(dir(), 1).empty());
  EXPECT_TRUE(retain(dir() + "/nothing", 1).empty());
}

TEST_F(RetentionTest, AbandonedFoldersAreRemoved) {
  save_steps(1);
  const std::string abandoned = step_dir(2) + ".tmp-" + random_save_id();
  make_folder(abandoned);
  make_folder(dir() + "/mine.tmp-1");
  EXPECT_EQ(remove_abandoned(dir()), std::vector<std::string>{abandoned});
  EXPECT_EQ(list_folder(dir()),
            (std::vector<std::string>{"latest", "mine.tmp-1", "step-00000001"}));
  EXPECT_TRUE(remove_abandoned(dir() + "/nothing").empty());
}

}  // namespace
}  // namespace switchyard
