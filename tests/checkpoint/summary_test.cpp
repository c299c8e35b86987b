#include "checkpoint/summary.h"

#include <gtest/gtest.h>

#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/sample_folder.h"

namespace switchyard {
namespace {

TEST(SummaryTest, CountsParametersWithoutTheirMomentsAndMasters) {
  const ScratchFolder folder;
  const std::string step_dir = save_sample(folder.path(), 1, 2);
  std::map<std::string, KindSummary> kinds = summarize(CheckpointReader(step_dir).manifest());
  ASSERT_EQ(kinds.size(), 3u);
  EXPECT_EQ(kinds["dense"].parameters, 31 * 5 + 3);
  EXPECT_EQ(kinds["dense"].tensors, 2 * 4);
  EXPECT_EQ(kinds["dense"].bytes, (31u * 5 + 3) * (2 + 3 * 4));
  EXPECT_EQ(kinds["expert"].parameters, 2 * 7 * 5);
  EXPECT_EQ(kinds["expert"].tensors, 2 * 4);
  EXPECT_EQ(kinds["state"].parameters, 0);
  EXPECT_EQ(kinds["state"].tensors, 3);
  EXPECT_EQ(kinds["state"].bytes, 2u * 4 + 8);
}

TEST(SummaryTest, ASuffixAloneMakesNoMoment) {
  Manifest manifest;
  manifest.tensors = {{"odd.exp_avg", {5}, "F32", "dense", {}}};
  EXPECT_EQ(summarize(manifest)["dense"].parameters, 5);
}

TEST(SummaryTest, BytesAreThoseOfTheFilesButTheManifest) {
  const ScratchFolder folder;
  const std::string step_dir = save_sample(folder.path(), 1, 2);
  uint64_t expected = 0;
  for (const std::string& name : list_folder(step_dir)) {
    if (name != kManifestName) expected += FileReader(step_dir + "/" + name).size();
  }
  EXPECT_EQ(file_bytes(CheckpointReader(step_dir).manifest()), expected);
}

}  // namespace
}  // namespace switchyard
