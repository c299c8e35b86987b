#include "checkpoint/checkpoint_reader.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "checkpoint/sample_folder.h"

namespace switchyard {
namespace {

std::vector<unsigned char> read_all(CheckpointReader& reader, const SampleTensor& tensor,
                                    int64_t begin, int64_t end) {
  std::vector<unsigned char> out((end - begin) * tensor.element_bytes());
  reader.read(tensor.name, tensor.dtype, begin, end, out.data());
  return out;
}

std::vector<unsigned char> expected(const SampleTensor& tensor, int64_t begin, int64_t end) {
  return {tensor.bytes.begin() + begin * tensor.element_bytes(),
          tensor.bytes.begin() + end * tensor.element_bytes()};
}

std::string path_of_shard(const std::string& step_dir, int rank) {
  return step_dir + "/" + shard_name(rank);
}

class CheckpointReshardTest : public testing::TestWithParam<std::pair<int, int>> {};

TEST_P(CheckpointReshardTest, AnyWorldReadsWhatAnyWorldWrote) {
  const auto [writers, readers] = GetParam();
  const ScratchFolder folder;
  const std::string step_dir = save_sample(folder.path(), 1, writers);
  for (const Digests digests : {Digests::kCheck, Digests::kTrust}) {
    for (int rank = 0; rank < readers; ++rank) {
      CheckpointReader reader(step_dir, digests);
      for (const SampleTensor& tensor : sample_model()) {
        const int64_t begin = tensor.elements() * rank / readers;
        const int64_t end = tensor.elements() * (rank + 1) / readers;
        EXPECT_EQ(read_all(reader, tensor, begin, end), expected(tensor, begin, end))
            << tensor.name;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Worlds, CheckpointReshardTest,
                         testing::Values(std::pair(1, 1), std::pair(4, 3), std::pair(3, 4),
                                         std::pair(4, 1), std::pair(1, 5)),
                         [](const auto& test) {
                           return std::to_string(test.param.first) + "To" +
                                  std::to_string(test.param.second);
                         });

TEST(CheckpointReaderTest, EveryIntervalOfATensorReads) {
  const ScratchFolder folder;
  CheckpointReader reader(save_sample(folder.path(), 1, 4));
  const SampleTensor tensor = sample_model()[8];
  for (int64_t begin = 0; begin <= tensor.elements(); ++begin) {
    for (int64_t end = begin; end <= tensor.elements(); ++end) {
      ASSERT_EQ(read_all(reader, tensor, begin, end), expected(tensor, begin, end));
    }
  }
}

TEST(CheckpointReaderTest, LargeSlicesAreReadInPieces) {
  const ScratchFolder folder;
  const SampleTensor large = sample_tensor("large", {3'000'001}, "U8", "state");
  const std::vector<std::string> thrown = run_ranks(1, [&](Communicator& world) {
    save_checkpoint(world, folder.path(), sample_info(1, 1), owned_by(0, 1, {large}));
  });
  ASSERT_EQ(thrown[0], "");
  CheckpointReader reader(folder / "step-00000001");
  EXPECT_EQ(read_all(reader, large, 1'000'000, 2'500'000), expected(large, 1'000'000, 2'500'000));
  EXPECT_EQ(reader.bytes_read(), 3'000'001u);
  EXPECT_EQ(read_all(reader, large, 5, 15), expected(large, 5, 15));
  EXPECT_EQ(reader.bytes_read(), 3'000'011u) << "the second read needs no digest";
}

TEST(CheckpointReaderTest, ReadsNoMoreThanTheSlicesItMeets) {
  const ScratchFolder folder;
  const std::string step_dir = save_sample(folder.path(), 1, 4);
  CheckpointReader checking(step_dir);
  CheckpointReader trusting(step_dir, Digests::kTrust);
  const SampleTensor tensor = sample_model()[1];  // 155 elements of 4 bytes in slices of 38 or 39
  read_all(checking, tensor, 40, 50);
  EXPECT_EQ(checking.bytes_read(), 39u * 4);
  read_all(trusting, tensor, 40, 50);
  EXPECT_EQ(trusting.bytes_read(), 10u * 4);
}

TEST(CheckpointReaderTest, ConvertsNothing) {
  const ScratchFolder folder;
  CheckpointReader reader(save_sample(folder.path(), 1, 2));
  float out[3];
  const std::string message =
      message_of<DataError>([&] { reader.read("model.norm.weight", "F32", 0, 3, out); });
  EXPECT_NE(message.find("tensor \"model.norm.weight\": stored as BF16, wanted as F32"),
            std::string::npos)
      << message;
}

TEST(CheckpointReaderTest, KnowsItsTensorsAndTheirBounds) {
  const ScratchFolder folder;
  CheckpointReader reader(save_sample(folder.path(), 1, 2));
  float out[4];
  EXPECT_TRUE(reader.has("model.norm.weight.master"));
  EXPECT_FALSE(reader.has("model.norm.weight.momentum"));
  EXPECT_THROW(reader.tensor("model.norm.weight.momentum"), DataError);
  EXPECT_THROW(reader.read("x", "F32", 0, 1, out), DataError);
  EXPECT_THROW(reader.read("model.norm.weight.master", "F32", 0, 4, out), DataError);
  EXPECT_THROW(reader.read("model.norm.weight.master", "F32", -1, 1, out), DataError);
  EXPECT_THROW(reader.read("model.norm.weight.master", "F32", 2, 1, out), DataError);
  EXPECT_THROW(reader.read_text("chat_template.jinja"), DataError);
}

TEST(CheckpointReaderTest, ADamagedSliceNamesTensorAndFile) {
  const ScratchFolder folder;
  const std::string step_dir = save_sample(folder.path(), 1, 2);
  const SampleTensor tensor = sample_model()[1];
  const Slice slice = CheckpointReader(step_dir).tensor(tensor.name).slices[1];
  flip_bit(path_of_shard(step_dir, 1), slice.offset + slice.bytes - 1, 0);
  CheckpointReader reader(step_dir);
  EXPECT_NO_THROW(read_all(reader, tensor, 0, 77));
  for (const auto& [begin, end] : {std::pair(77, 155), std::pair(77, 78), std::pair(0, 155)}) {
    const std::string message =
        message_of<DataError>([&] { read_all(reader, tensor, begin, end); });
    EXPECT_NE(message.find("rank-00001.safetensors: tensor \"model.embed_tokens.weight.master\", "
                           "elements [77, 155) at byte "),
              std::string::npos)
        << message;
    EXPECT_NE(message.find("damaged: the digest is"), std::string::npos) << message;
  }
}

TEST(CheckpointReaderTest, ADamagedHeaderIsFoundBeforeItsDataIsUsed) {
  const ScratchFolder folder;
  const std::string step_dir = save_sample(folder.path(), 1, 2);
  flip_bit(path_of_shard(step_dir, 1), 20, 3);
  CheckpointReader reader(step_dir);
  const std::string message =
      message_of<DataError>([&] { read_all(reader, sample_model()[1], 150, 151); });
  EXPECT_NE(message.find("rank-00001.safetensors: header: damaged"), std::string::npos) << message;
}

/// What opening says after `damage` was done to a checkpoint of two ranks.
std::string refusal_after(const std::function<void(const std::string& step_dir)>& damage) {
  const ScratchFolder folder;
  const std::string step_dir = save_sample(folder.path(), 1, 2);
  damage(step_dir);
  return message_of<DataError>([&] { CheckpointReader reader(step_dir); });
}

TEST(CheckpointReaderTest, FilesThatAreMissingOrOfAnotherSizeAreRefused) {
  for (const char* name : {"manifest.json", "config.yaml", "tokenizer.json",
                           "rank-00000.safetensors", "rank-00001.safetensors"}) {
    const std::string missing =
        refusal_after([&](const std::string& step_dir) { remove_tree(step_dir + "/" + name); });
    EXPECT_NE(missing.find(name), std::string::npos) << missing;
    for (const int64_t change : {-1, 1, -100}) {
      const std::string resized = refusal_after([&](const std::string& step_dir) {
        const std::string path = step_dir + "/" + name;
        const auto size = static_cast<int64_t>(std::filesystem::file_size(path));
        std::filesystem::resize_file(path, std::max<int64_t>(0, size + change));
      });
      EXPECT_NE(resized.find(name), std::string::npos) << resized;
    }
  }
}

TEST(CheckpointReaderTest, LinksAreRefused) {
  for (const char* name : {"manifest.json", "config.yaml", "rank-00001.safetensors"}) {
    const std::string message = refusal_after([&](const std::string& step_dir) {
      rename_path(step_dir + "/" + name, step_dir + "/moved");
      std::filesystem::create_symlink("moved", step_dir + "/" + name);
    });
    EXPECT_NE(message.find(name), std::string::npos) << message;
    EXPECT_NE(message.find("a symbolic link"), std::string::npos) << message;
  }
}

TEST(CheckpointReaderTest, AShardThatNobodyKnowsIsRefused) {
  const std::string message = refusal_after([](const std::string& step_dir) {
    std::filesystem::copy(path_of_shard(step_dir, 0), path_of_shard(step_dir, 2));
  });
  EXPECT_NE(message.find("rank-00002.safetensors: a shard that the manifest does not know"),
            std::string::npos)
      << message;
}

TEST(CheckpointReaderTest, AShardOfAnotherSaveIsRefused) {
  const ScratchFolder folder;
  const std::string one = save_sample(folder.path(), 1, 2);
  const std::string two = save_sample(folder.path(), 2, 2);
  std::filesystem::copy_file(path_of_shard(one, 1), path_of_shard(two, 1),
                             std::filesystem::copy_options::overwrite_existing);
  CheckpointReader reader(two);
  EXPECT_THROW(read_all(reader, sample_model()[1], 150, 151), DataError);
}

TEST(CheckpointReaderTest, AFolderWithoutManifestIsNoCheckpoint) {
  const ScratchFolder folder;
  EXPECT_THROW(CheckpointReader(folder.path()), DataError);
  EXPECT_THROW(CheckpointReader(folder / "nothing"), DataError);
}

}  // namespace
}  // namespace switchyard
