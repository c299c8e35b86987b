#include "checkpoint/tensor_stream.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/sample_folder.h"

namespace switchyard {
namespace {

/// All bytes of a tensor, read in pieces of one size.
std::vector<unsigned char> read_all(CheckpointReader& reader, const std::string& name,
                                    size_t piece_bytes) {
  TensorStream stream(reader, reader.tensor(name));
  std::vector<std::byte> piece(piece_bytes);
  std::vector<unsigned char> all;
  while (const size_t bytes = stream.read(piece)) {
    const auto* at = reinterpret_cast<const unsigned char*>(piece.data());
    all.insert(all.end(), at, at + bytes);
  }
  EXPECT_EQ(stream.read(piece), 0u) << "the end stays the end";
  return all;
}

TEST(TensorStreamTest, GivesTheBytesOfEveryTensorOnAnyLayoutInPiecesOfAnySize) {
  const ScratchFolder folder;
  for (const int world : {1, 3}) {
    CheckpointReader reader(save_sample(folder.path(), world, world));
    for (const SampleTensor& tensor : sample_model()) {
      for (const size_t piece : {1, 7, 64, 100'000}) {
        EXPECT_EQ(read_all(reader, tensor.name, piece), tensor.bytes) << tensor.name;
      }
    }
  }
}

TEST(TensorStreamTest, ADamagedSliceThrowsAtItsEnd) {
  const ScratchFolder folder;
  const std::string step_dir = save_sample(folder.path(), 1, 2);
  CheckpointReader reader(step_dir);
  const TensorRecord& tensor = reader.tensor("model.embed_tokens.weight");
  const Slice& second = tensor.slices.at(1);
  flip_bit(step_dir + "/" + reader.manifest().shards[second.shard].name, second.offset, 3);
  TensorStream stream(reader, tensor);
  std::vector<std::byte> first_slice(tensor.slices[0].bytes), rest(second.bytes);
  EXPECT_EQ(stream.read(first_slice), first_slice.size());
  EXPECT_THROW(stream.read(rest), DataError);
}

TEST(TensorStreamTest, ADamagedHeaderThrowsBeforeTheFirstByte) {
  const ScratchFolder folder;
  const std::string step_dir = save_sample(folder.path(), 1, 1);
  CheckpointReader reader(step_dir);
  flip_bit(step_dir + "/rank-00000.safetensors", 9, 0);
  TensorStream stream(reader, reader.tensor("loss_scale"));
  std::vector<std::byte> piece(1);
  EXPECT_THROW(stream.read(piece), DataError);
}

}  // namespace
}  // namespace switchyard
