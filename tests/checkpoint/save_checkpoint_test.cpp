#include "checkpoint/save_checkpoint.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/error.h"
#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/sample_folder.h"
#include "checkpoint/verify_checkpoint.h"
#include "distributed/solo_communicator.h"

namespace switchyard {
namespace {

using Names = std::vector<std::string>;

TEST(SaveCheckpointTest, WritesAFolderAndPointsAtIt) {
  const ScratchFolder folder;
  save_sample(folder / "checkpoints", 1200, 2);
  EXPECT_EQ(list_folder(folder / "checkpoints"), (Names{"latest", "step-00001200"}));
  EXPECT_EQ(read_file(folder / "checkpoints/latest"), "step-00001200\n");
  EXPECT_EQ(list_folder(folder / "checkpoints/step-00001200"),
            (Names{"config.yaml", "manifest.json", "rank-00000.safetensors",
                   "rank-00001.safetensors", "tokenizer.json"}));
}

TEST(SaveCheckpointTest, ThreadsOfOneWorldNeedNoMpi) {
  const ScratchFolder folder;
  const auto world = make_solo_communicator("world");
  save_checkpoint(*world, folder.path(), sample_info(3, 1), owned_by(0, 1, sample_model()));
  EXPECT_TRUE(verify_checkpoint(folder / "step-00000003").empty());
}

TEST(SaveCheckpointTest, TheManifestTellsTheRun) {
  const ScratchFolder folder;
  const CheckpointReader reader(save_sample(folder.path(), 1200, 4));
  EXPECT_EQ(reader.manifest().step, 1200);
  EXPECT_EQ(reader.manifest().cursor, 9600u);
  EXPECT_EQ(reader.manifest().world, 4);
  EXPECT_EQ(reader.manifest().expert_parallel, 2);
  EXPECT_EQ(reader.manifest().zero_stage, 1);
  EXPECT_EQ(reader.manifest().state, sample_info(1200, 4).state);
  EXPECT_EQ(reader.read_text("config.yaml"), sample_info(1200, 4).config_yaml);
  EXPECT_EQ(reader.read_text("tokenizer.json"), "{\"model\": {}}");
}

TEST(SaveCheckpointTest, SavingAStepAgainReplacesIt) {
  const ScratchFolder folder;
  const std::string first = CheckpointReader(save_sample(folder.path(), 5, 2)).manifest().save_id;
  const std::string second = CheckpointReader(save_sample(folder.path(), 5, 3)).manifest().save_id;
  EXPECT_NE(first, second);
  EXPECT_EQ(list_folder(folder.path()), (Names{"latest", "step-00000005"}));
  EXPECT_TRUE(verify_checkpoint(folder / "step-00000005").empty());
}

/// Saves step 2 after a good step 1, with rank 0's or others' part changed; all
/// ranks must throw the same, and nothing may have changed on the disk.
std::string failed_save(
    int world,
    const std::function<void(int rank, CheckpointInfo&, std::vector<OwnedSlice>&)>& spoil,
    const std::function<void()>& before = [] {}) {
  const ScratchFolder folder;
  save_sample(folder.path(), 1, world);
  before();
  const std::vector<SampleTensor> model = sample_model();
  const Names thrown = run_ranks(world, [&](Communicator& communicator) {
    CheckpointInfo info = sample_info(2, world);
    std::vector<OwnedSlice> slices = owned_by(communicator.rank(), world, model);
    spoil(communicator.rank(), info, slices);
    save_checkpoint(communicator, folder.path(), info, slices);
  });
  EXPECT_EQ(thrown, Names(world, thrown[0]));
  EXPECT_EQ(list_folder(folder.path()), (Names{"latest", "step-00000001"}));
  EXPECT_EQ(read_file(folder / "latest"), "step-00000001\n");
  EXPECT_TRUE(verify_checkpoint(folder / "step-00000001").empty());
  return thrown[0];
}

void expect_complaint(const std::string& message, const std::string& complaint) {
  EXPECT_NE(message.find(complaint), std::string::npos) << message;
  EXPECT_TRUE(message.starts_with("the checkpoint was not saved: ")) << message;
}

TEST(SaveCheckpointTest, AGapIsFoundByAllRanks) {
  const std::string message =
      failed_save(4, [](int rank, CheckpointInfo&, std::vector<OwnedSlice>& slices) {
        if (rank == 2) slices[0].begin += 1;
      });
  expect_complaint(message, "tensor \"model.embed_tokens.weight\": elements [77, 78) are in no");
}

TEST(SaveCheckpointTest, AMissingSliceIsFoundByAllRanks) {
  const std::string message =
      failed_save(3, [](int rank, CheckpointInfo&, std::vector<OwnedSlice>& slices) {
        if (rank == 2) slices.erase(slices.begin());
      });
  expect_complaint(message, "elements [103, 155) are in no slice");
}

TEST(SaveCheckpointTest, AnOverlapIsFoundByAllRanks) {
  const std::string message =
      failed_save(2, [](int rank, CheckpointInfo&, std::vector<OwnedSlice>& slices) {
        if (rank != 1) return;
        slices[0].begin -= 1;
        slices[0].data = static_cast<const char*>(slices[0].data) - sizeof(uint16_t);  // BF16
      });
  expect_complaint(message, "elements [76, 77) are in two slices, of shards 0 and 1");
}

TEST(SaveCheckpointTest, RanksThatDisagreeAboutATensorFailTogether) {
  const std::string message =
      failed_save(2, [](int rank, CheckpointInfo&, std::vector<OwnedSlice>& slices) {
        if (rank == 1) slices[0].kind = "expert";
      });
  expect_complaint(message, "\"model.embed_tokens.weight\": rank 1 has another");
}

TEST(SaveCheckpointTest, RanksAtAnotherStepFailTogether) {
  const std::string message =
      failed_save(3, [](int rank, CheckpointInfo& info, std::vector<OwnedSlice>&) {
        if (rank == 1) info.step = 3;
      });
  expect_complaint(message, "rank 1: rank 0 saves");
}

TEST(SaveCheckpointTest, AFileNameThatClimbsIsRefused) {
  const std::string message =
      failed_save(2, [](int rank, CheckpointInfo& info, std::vector<OwnedSlice>&) {
        if (rank == 0) info.files = {{"../tokenizer.json", "x"}};
      });
  expect_complaint(message, "no plain file name");
}

TEST(SaveCheckpointTest, AFullDiskOnOneRankFailsAllAndKeepsThePreviousOne) {
  rlimit unlimited;
  ::getrlimit(RLIMIT_FSIZE, &unlimited);
  ::signal(SIGXFSZ, SIG_IGN);
  const std::vector<float> large(1 << 20);
  const std::string message = failed_save(
      3,
      [&](int rank, CheckpointInfo&, std::vector<OwnedSlice>& slices) {
        if (rank == 1)
          slices.push_back({"large", {1 << 20}, "F32", "dense", 0, 1 << 20, large.data()});
      },
      [&] {
        const rlimit limit{1 << 20, unlimited.rlim_max};
        ::setrlimit(RLIMIT_FSIZE, &limit);
      });
  ::setrlimit(RLIMIT_FSIZE, &unlimited);
  expect_complaint(message, "rank 1: cannot write");
  expect_complaint(message, "rank-00001.safetensors: File too large");
}

TEST(SaveCheckpointTest, AFolderThatCannotBeMadeFailsAll) {
  const ScratchFolder folder;
  write_file_atomically(folder / "file", "");
  const Names thrown = run_ranks(3, [&](Communicator& communicator) {
    save_checkpoint(communicator, folder / "file", sample_info(1, 3), {});
  });
  for (const std::string& message : thrown) expect_complaint(message, folder / "file");
}

TEST(SaveCheckpointTest, AFailureToPointLeavesTheOldPointerAndNoTemporaryFolder) {
  const ScratchFolder folder;
  make_folder(folder / "latest");
  const Names thrown = run_ranks(2, [&](Communicator& communicator) {
    save_checkpoint(communicator, folder.path(), sample_info(1, 2),
                    owned_by(communicator.rank(), 2, sample_model()));
  });
  EXPECT_EQ(thrown, Names(2, thrown[0]));
  const std::string beginning =
      (folder / "step-00000001") + " is saved, but `latest` may not name it: cannot rename ";
  EXPECT_TRUE(thrown[0].starts_with(beginning)) << thrown[0];
  EXPECT_EQ(list_folder(folder.path()), (Names{"latest", "step-00000001"}));
}

}  // namespace
}  // namespace switchyard
