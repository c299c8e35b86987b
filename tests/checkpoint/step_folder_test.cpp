#include "checkpoint/step_folder.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/sample_folder.h"

namespace switchyard {
namespace {

/// Damages a byte of a tensor: the manifest still opens.
void damage_shard(const std::string& step_dir) {
  flip_bit(step_dir + "/rank-00000.safetensors",
           read_file(step_dir + "/rank-00000.safetensors").size() - 1, 0);
}

TEST(StepFolderTest, NamesGoBothWays) {
  EXPECT_EQ(step_folder_name(1200), "step-00001200");
  EXPECT_EQ(step_folder_name(1234567890), "step-1234567890");
  EXPECT_EQ(parse_step_folder_name("step-00001200"), 1200);
  EXPECT_EQ(parse_step_folder_name("step-1234567890"), 1234567890);
  for (const char* name : {"step-1200", "step-000012000", "step-", "step-0000120x", "Step-00001200",
                           "step--0000001", "step-00001200.tmp-1", "latest", "1200"}) {
    EXPECT_FALSE(parse_step_folder_name(name)) << name;
  }
}

TEST(StepFolderTest, OnlyOurTemporaryNamesAreOurs) {
  EXPECT_TRUE(is_temporary_name("step-00001200.tmp-" + random_save_id()));
  EXPECT_FALSE(is_temporary_name("step-00001200.tmp-1"));
  EXPECT_FALSE(is_temporary_name("step-00001200"));
  EXPECT_FALSE(is_temporary_name("mine.tmp-" + random_save_id()));
  EXPECT_NE(random_save_id(), random_save_id());
}

TEST(StepFolderTest, StepsAreListedNewestFirst) {
  const ScratchFolder folder;
  for (const char* name : {"step-00000002", "step-00000010", "step-100000000", "notes"}) {
    make_folder(folder / name);
  }
  EXPECT_EQ(list_steps(folder.path()), (std::vector<int64_t>{100000000, 10, 2}));
  EXPECT_TRUE(list_steps(folder / "nothing").empty());
}

TEST(NewestValidTest, IsNothingWhereThereIsNothing) {
  const ScratchFolder folder;
  EXPECT_EQ(newest_valid(folder.path(), nullptr), "");
  EXPECT_EQ(newest_valid(folder / "nothing", nullptr), "");
}

TEST(NewestValidTest, IgnoresWhatAKilledSaveLeft) {
  const ScratchFolder folder;
  const std::string good = save_sample(folder.path(), 1, 1);
  rename_path(save_sample(folder.path(), 2, 1), folder / ("step-00000002.tmp-" + random_save_id()));
  std::vector<std::string> complaints;
  EXPECT_EQ(newest_valid(folder.path(), &complaints), good);
  EXPECT_TRUE(complaints.empty());
}

TEST(NewestValidTest, DoesNotNeedLatest) {
  const ScratchFolder folder;
  save_sample(folder.path(), 1, 1);
  const std::string newest = save_sample(folder.path(), 2, 1);
  write_file_atomically(folder / "latest", "step-00000001\n");
  EXPECT_EQ(newest_valid(folder.path(), nullptr), newest);
}

TEST(NewestValidTest, FallsBackAndSaysWhy) {
  const ScratchFolder folder;
  const std::string good = save_sample(folder.path(), 1, 2);
  damage_shard(save_sample(folder.path(), 2, 2));
  make_folder(folder / "step-00000003");
  std::vector<std::string> complaints;
  EXPECT_EQ(newest_valid(folder.path(), &complaints), good);
  ASSERT_EQ(complaints.size(), 2u);
  EXPECT_NE(complaints[0].find("step-00000003/manifest.json"), std::string::npos);
  EXPECT_NE(complaints[1].find("step-00000002/rank-00000.safetensors"), std::string::npos);
}

TEST(NewestValidTest, DamagedOnesAloneAreAnError) {
  const ScratchFolder folder;
  damage_shard(save_sample(folder.path(), 1, 2));
  const std::string message = message_of<DataError>([&] { newest_valid(folder.path(), nullptr); });
  EXPECT_NE(message.find("move them away to start from scratch"), std::string::npos) << message;
  EXPECT_NE(message.find("rank-00000.safetensors"), std::string::npos) << message;
}

TEST(NewestValidTest, AllRanksDecideTogether) {
  const ScratchFolder folder;
  const std::string good = save_sample(folder.path(), 12, 2);
  damage_shard(save_sample(folder.path(), 13, 2));
  std::vector<std::string> chosen(3);
  std::vector<std::vector<std::string>> complaints(3);
  run_ranks(3, [&](Communicator& world) {
    chosen[world.rank()] = newest_valid(world, folder.path(), &complaints[world.rank()]);
  });
  EXPECT_EQ(chosen, std::vector<std::string>(3, good));
  for (const auto& list : complaints) {
    ASSERT_EQ(list.size(), 1u);
    EXPECT_NE(list[0].find("step-00000013/rank-00000.safetensors"), std::string::npos) << list[0];
  }
}

TEST(NewestValidTest, ARankThatCannotSeeTheFolderStopsAll) {
  const ScratchFolder folder;
  save_sample(folder / "here", 1, 1);
  const std::vector<std::string> thrown = run_ranks(2, [&](Communicator& world) {
    newest_valid(world, folder / (world.rank() == 0 ? "here" : "there"), nullptr);
  });
  EXPECT_NE(thrown[0].find("rank 1: cannot open"), std::string::npos) << thrown[0];
  EXPECT_NE(thrown[1].find("rank 1: cannot open"), std::string::npos) << thrown[1];
}

TEST(NewestValidTest, NothingIsNothingOnAllRanks) {
  const ScratchFolder folder;
  const std::vector<std::string> thrown = run_ranks(
      2, [&](Communicator& world) { EXPECT_EQ(newest_valid(world, folder.path(), nullptr), ""); });
  EXPECT_EQ(thrown, std::vector<std::string>(2));
}

TEST(ResolveCheckpointTest, TakesStepsRunsAndCheckpointFolders) {
  const ScratchFolder run;
  const std::string one = save_sample(run / "checkpoints", 1, 1);
  const std::string two = save_sample(run / "checkpoints", 2, 1);
  EXPECT_EQ(resolve_checkpoint(one), one);
  EXPECT_EQ(resolve_checkpoint(one + "/"), one);
  EXPECT_EQ(resolve_checkpoint(run.path()), two);
  EXPECT_EQ(resolve_checkpoint(run / "checkpoints/"), two);
  rename_path(one, run / "renamed");
  EXPECT_EQ(resolve_checkpoint(run / "renamed"), run / "renamed");
}

TEST(ResolveCheckpointTest, FollowsLatestWhileItOpens) {
  const ScratchFolder run;
  const std::string one = save_sample(run / "checkpoints", 1, 1);
  const std::string two = save_sample(run / "checkpoints", 2, 1);
  write_file_atomically(run / "checkpoints/latest", "step-00000001\n");
  EXPECT_EQ(resolve_checkpoint(run.path()), one);
  for (const char* pointer : {"step-00000007\n", "../elsewhere\n", ""}) {
    write_file_atomically(run / "checkpoints/latest", pointer);
    EXPECT_EQ(resolve_checkpoint(run.path()), two) << pointer;
  }
}

TEST(ResolveCheckpointTest, TakesTheDamagedWhenAskedTo) {
  const ScratchFolder run;
  const std::string one = save_sample(run / "checkpoints", 1, 1);
  const std::string two = save_sample(run / "checkpoints", 2, 1);
  flip_bit(two + "/manifest.json", 30, 0);
  EXPECT_EQ(resolve_checkpoint(run.path()), one);
  EXPECT_EQ(resolve_checkpoint(run.path(), Damaged::kTake), two);
  remove_tree(run / "checkpoints/latest");
  EXPECT_EQ(resolve_checkpoint(run.path()), one);
  EXPECT_EQ(resolve_checkpoint(run.path(), Damaged::kTake), two);
  write_file_atomically(run / "checkpoints/latest", "step-00000001\n");
  EXPECT_EQ(resolve_checkpoint(run.path(), Damaged::kTake), one);
  EXPECT_THROW(resolve_checkpoint(run / "nothing", Damaged::kTake), DataError);
}

TEST(ResolveCheckpointTest, SaysWhatItLookedFor) {
  const ScratchFolder folder;
  for (const std::string& argument : {folder.path(), folder / "nothing"}) {
    const std::string message = message_of<DataError>([&] { resolve_checkpoint(argument); });
    EXPECT_NE(message.find("no checkpoint in " + argument), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace switchyard
