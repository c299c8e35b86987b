#include "checkpoint/verify_checkpoint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/random.h"
#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/sample_folder.h"

namespace switchyard {
namespace {

TEST(VerifyCheckpointTest, FindsNothingWrongInAWholeOne) {
  const ScratchFolder folder;
  const std::string step_dir = save_sample(folder.path(), 1, 3);
  EXPECT_TRUE(verify_checkpoint(step_dir).empty());
  for (int part = 0; part < 5; ++part) EXPECT_TRUE(verify_checkpoint(step_dir, part, 5).empty());
}

/// Whether the damage of one bit is found; the bit is mended again.
bool is_found(const std::string& step_dir, const std::string& name, size_t byte, int bit) {
  flip_bit(step_dir + "/" + name, byte, bit);
  const std::vector<std::string> problems = verify_checkpoint(step_dir);
  flip_bit(step_dir + "/" + name, byte, bit);
  return !problems.empty() && problems[0].find(name) != std::string::npos;
}

TEST(VerifyCheckpointTest, EveryDamagedByteOfEveryFileIsFound) {
  const ScratchFolder folder;
  const std::string step_dir = save_sample(folder.path(), 1, 2);
  for (const std::string& name : list_folder(step_dir)) {
    const size_t size = read_file(step_dir + "/" + name).size();
    const bool is_shard = name.starts_with("rank-");
    for (size_t byte = 0; byte < size; byte += is_shard ? 29 : 1) {
      ASSERT_TRUE(is_found(step_dir, name, byte, byte % 8)) << name << " byte " << byte;
    }
  }
  EXPECT_TRUE(verify_checkpoint(step_dir).empty());
}

TEST(VerifyCheckpointTest, TellsEveryDamagedSlice) {
  const ScratchFolder folder;
  const std::string step_dir = save_sample(folder.path(), 1, 2);
  const Manifest manifest = CheckpointReader(step_dir).manifest();
  for (const size_t tensor : {size_t{1}, size_t{2}}) {
    const Slice& slice = manifest.tensors[tensor].slices[0];
    flip_bit(step_dir + "/" + manifest.shards[slice.shard].name, slice.offset, 1);
  }
  const std::vector<std::string> problems = verify_checkpoint(step_dir);
  ASSERT_EQ(problems.size(), 2u);
  EXPECT_NE(problems[0].find(manifest.tensors[1].name), std::string::npos);
  EXPECT_NE(problems[1].find(manifest.tensors[2].name), std::string::npos);
}

TEST(VerifyCheckpointTest, TellsEveryFaultAtOnce) {
  const ScratchFolder folder;
  const std::string step_dir = save_sample(folder.path(), 1, 3);
  flip_bit(step_dir + "/config.yaml", 0, 0);
  flip_bit(step_dir + "/rank-00000.safetensors", 8, 0);
  remove_tree(step_dir + "/rank-00001.safetensors");
  write_file_atomically(step_dir + "/rank-00007.safetensors", "more");
  const Manifest manifest =
      CheckpointReader(step_dir, Digests::kTrust, Opening::kManifest).manifest();
  const Slice& slice = manifest.tensors[0].slices.back();  // of rank 2
  flip_bit(step_dir + "/rank-00002.safetensors", slice.offset, 1);
  for (const int parts : {1, 2, 4}) {
    std::set<std::string> problems;  // several parts may want to read the missing shard
    for (int part = 0; part < parts; ++part) {
      for (const std::string& problem : verify_checkpoint(step_dir, part, parts)) {
        problems.insert(problem);
      }
    }
    std::string all;
    for (const std::string& problem : problems) all += problem + "\n";
    EXPECT_EQ(problems.size(), 5u) << all;
    for (const char* fault :
         {"config.yaml: damaged", "rank-00000.safetensors: header: damaged",
          "rank-00001.safetensors: No such file", "rank-00002.safetensors: tensor \"",
          "rank-00007.safetensors: a shard that the manifest does not know"}) {
      EXPECT_NE(all.find(fault), std::string::npos) << fault << " is not in\n" << all;
    }
  }
}

TEST(VerifyCheckpointTest, CountsTheBytesThatAreRight) {
  const ScratchFolder folder;
  const std::string step_dir = save_sample(folder.path(), 1, 3);
  uint64_t whole = 0;
  for (const std::string& name : list_folder(step_dir)) {
    whole += FileReader(step_dir + "/" + name).size();
  }
  for (const int parts : {1, 2, 5}) {
    uint64_t sum = 0, bytes = 0;
    for (int part = 0; part < parts; ++part, sum += bytes) {
      verify_checkpoint(step_dir, part, parts, &bytes);
    }
    EXPECT_EQ(sum, whole) << parts;
  }
  const Manifest manifest = CheckpointReader(step_dir).manifest();
  const Slice& slice = manifest.tensors[0].slices[0];
  flip_bit(step_dir + "/" + manifest.shards[slice.shard].name, slice.offset, 1);
  uint64_t bytes = 0;
  verify_checkpoint(step_dir, 0, 1, &bytes);
  EXPECT_EQ(bytes, whole - slice.bytes);
}

TEST(VerifyCheckpointTest, PartsShareTheWork) {
  const ScratchFolder folder;
  const std::string step_dir = save_sample(folder.path(), 1, 2);
  const Manifest manifest = CheckpointReader(step_dir).manifest();
  for (const TensorRecord& tensor : manifest.tensors) {
    for (const Slice& slice : tensor.slices) {
      const std::string shard = step_dir + "/" + manifest.shards[slice.shard].name;
      flip_bit(shard, slice.offset, 0);
      int found = 0;
      for (int part = 0; part < 3; ++part) found += verify_checkpoint(step_dir, part, 3).size();
      flip_bit(shard, slice.offset, 0);
      EXPECT_EQ(found, 1) << tensor.name;
    }
  }
}

}  // namespace
}  // namespace switchyard
