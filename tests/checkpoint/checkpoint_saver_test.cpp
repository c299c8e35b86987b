#include "checkpoint/checkpoint_saver.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"
#include "checkpoint/sample_folder.h"
#include "checkpoint/verify_checkpoint.h"

namespace switchyard {
namespace {

using Names = std::vector<std::string>;

/// Polls until the save has ended, as a run does at its steps.
SaveReport poll_to_the_end(CheckpointSaver& saver) {
  for (;;) {
    if (const std::optional<SaveReport> report = saver.poll()) return *report;
  }
}

void in_every_world(const std::function<void(Communicator&, const std::string& folder)>& body) {
  for (const int ranks : {1, 2, 4}) {
    const ScratchFolder folder;
    const Names thrown = run_ranks(ranks, [&](Communicator& world) { body(world, folder.path()); });
    EXPECT_EQ(thrown, Names(ranks));
  }
}

TEST(CheckpointSaverTest, PublishesWhatWasThereAtTheStart) {
  in_every_world([](Communicator& world, const std::string& folder) {
    std::vector<SampleTensor> model = sample_model();
    const std::vector<SampleTensor> before = model;
    CheckpointSaver saver(world, {folder});
    saver.start(sample_info(7, world.size()), owned_by(world.rank(), world.size(), model));
    for (SampleTensor& tensor : model) std::fill(tensor.bytes.begin(), tensor.bytes.end(), 1);
    EXPECT_TRUE(saver.under_way());
    const SaveReport report = poll_to_the_end(saver);
    EXPECT_TRUE(report.outcome.done()) << report.outcome.text;
    EXPECT_EQ(report.folder, folder + "/step-00000007");
    EXPECT_FALSE(saver.under_way());
    if (world.rank() != 0) return;
    EXPECT_TRUE(verify_checkpoint(report.folder).empty());
    expect_holds(report.folder, before);
  });
}

TEST(CheckpointSaverTest, NothingIsPublishedBeforeAllRanksHaveSaid) {
  in_every_world([](Communicator& world, const std::string& folder) {
    const std::vector<SampleTensor> model = sample_model();
    CheckpointSaver saver(world, {folder});
    saver.start(sample_info(1, world.size()), owned_by(world.rank(), world.size(), model));
    EXPECT_FALSE(path_exists(folder + "/latest"));
    EXPECT_TRUE(saver.finish()->outcome.done());
    EXPECT_EQ(read_file(folder + "/latest"), "step-00000001\n");
    EXPECT_FALSE(saver.finish().has_value());
    EXPECT_FALSE(saver.poll().has_value());
  });
}

TEST(CheckpointSaverTest, OlderOnesGoAfterANewerOneIsPublished) {
  in_every_world([](Communicator& world, const std::string& folder) {
    const std::vector<SampleTensor> model = sample_model();
    CheckpointSaver saver(world, {folder, /*keep=*/2});
    for (const int step : {1, 2, 3, 4}) {
      saver.start(sample_info(step, world.size()), owned_by(world.rank(), world.size(), model));
      EXPECT_TRUE(saver.finish()->outcome.done());
    }
    world.barrier("all have looked");
    EXPECT_EQ(list_folder(folder), (Names{"latest", "step-00000003", "step-00000004"}));
  });
}

TEST(CheckpointSaverTest, SavingAtOnceIsTheSame) {
  in_every_world([](Communicator& world, const std::string& folder) {
    const std::vector<SampleTensor> model = sample_model();
    CheckpointSaver saver(world, {folder});
    const SaveReport report =
        saver.save(sample_info(5, world.size()), owned_by(world.rank(), world.size(), model));
    EXPECT_TRUE(report.outcome.done());
    EXPECT_EQ(saver.staging_bytes(), 0);
    if (world.rank() == 0) expect_holds(report.folder, model);
  });
}

TEST(CheckpointSaverTest, AFailureIsKnownToAllRanksAndTheNextSaveWorks) {
  in_every_world([](Communicator& world, const std::string& folder) {
    const std::vector<SampleTensor> model = sample_model();
    const std::vector<OwnedSlice> mine = owned_by(world.rank(), world.size(), model);
    CheckpointSaver saver(world, {folder});
    CheckpointInfo climbing = sample_info(1, world.size());
    climbing.files = {{"../tokenizer.json", "x"}};
    saver.start(climbing, mine);
    const SaveReport failed = poll_to_the_end(saver);
    EXPECT_EQ(failed.outcome.kind, SaveOutcome::Kind::kFailed);
    EXPECT_NE(failed.outcome.text.find("no plain file name"), std::string::npos);
    EXPECT_TRUE(list_folder(folder).empty());
    world.barrier("all have looked");
    saver.start(sample_info(2, world.size()), mine);
    EXPECT_TRUE(poll_to_the_end(saver).outcome.done());
  });
}

TEST(CheckpointSaverTest, WhatIsNotFiniteIsNotSaved) {
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    in_every_world([&](Communicator& world, const std::string& folder) {
      std::vector<float> numbers(100, 1.5F);
      numbers[61] = value;
      std::vector<OwnedSlice> slices;
      if (world.rank() == world.size() - 1)
        slices.push_back({"layer.weight", {100}, "F32", "dense", 0, 100, numbers.data()});
      CheckpointSaver saver(world, {folder});
      const SaveReport report = saver.save(sample_info(1, world.size()), slices);
      EXPECT_EQ(report.outcome.kind, SaveOutcome::Kind::kNonFinite);
      EXPECT_NE(report.outcome.text.find("element 61 of tensor \"layer.weight\" is not finite"),
                std::string::npos)
          << report.outcome.text;
      EXPECT_THROW(report.outcome.throw_unless_done(), NonFiniteError);
      EXPECT_TRUE(list_folder(folder).empty());
    });
  }
}

}  // namespace
}  // namespace switchyard
