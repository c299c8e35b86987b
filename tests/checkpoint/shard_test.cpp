#include "checkpoint/shard.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/checksum.h"
#include "base/error.h"
#include "base/safetensors.h"
#include "base/scratch_folder.h"

namespace switchyard {
namespace {

const std::string kSaveId(32, 'a');
const float kValues[] = {1, 2, 3, 4, 5, 6};

OwnedSlice slice_of(const std::string& name, int64_t begin, int64_t end) {
  return {name, {2, 3}, "F32", "dense", begin, end, kValues + begin};
}

TEST(ShardTest, WholeTensorsKeepTheirShapeAndIntervalsAreFlat) {
  const ScratchFolder folder;
  const ShardTable table =
      write_shard(folder.path(), 3, kSaveId, 12, {slice_of("b", 2, 5), slice_of("a", 0, 6)});
  const SafetensorsReader reader(folder / "rank-00003.safetensors");
  EXPECT_EQ(reader.at("a").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(reader.at("b@2-5").shape, (std::vector<int64_t>{3}));
  EXPECT_EQ(std::memcmp(reader.data(reader.at("b@2-5")), kValues + 2, 12), 0);
  EXPECT_EQ(reader.metadata().at("save_id"), kSaveId);
  EXPECT_EQ(reader.metadata().at("rank"), "3");

  ASSERT_EQ(table.tensors.size(), 2u);
  const Slice& slice = table.tensors[1].slices.at(0);
  EXPECT_EQ(slice.offset, reader.at("b@2-5").offset);
  EXPECT_EQ(slice.bytes, 12u);
  EXPECT_EQ(slice.xxh3, xxh3(kValues + 2, 12));
}

TEST(ShardTest, TensorsLieAlignedToTheirElements) {
  const ScratchFolder folder;
  const uint8_t bytes[] = {1, 2, 3};
  const ShardTable table = write_shard(
      folder.path(), 0, kSaveId, 12,
      {{"a", {3}, "U8", "state", 0, 3, bytes}, {"b", {1}, "F64", "state", 0, 1, kValues}});
  EXPECT_EQ(table.tensors[1].slices[0].offset, table.shard.header_bytes);
  EXPECT_EQ(table.shard.header_bytes % 8, 0u);
}

TEST(ShardTest, ARankThatOwnsNothingWritesAnEmptyShard) {
  const ScratchFolder folder;
  const ShardTable table = write_shard(folder.path(), 1, kSaveId, 12, {slice_of("a", 3, 3)});
  EXPECT_EQ(table.shard.bytes, table.shard.header_bytes);
  EXPECT_TRUE(table.tensors.at(0).slices.empty());
  EXPECT_TRUE(SafetensorsReader(folder / table.shard.name).tensors().empty());
}

TEST(ShardTest, RefusesSlicesThatMakeNoSense) {
  const ScratchFolder folder;
  const auto refuses = [&](OwnedSlice slice) {
    return message_of<DataError>([&] { write_shard(folder.path(), 0, kSaveId, 1, {slice}); });
  };
  EXPECT_EQ(refuses(slice_of("a", 4, 7)), "cannot save tensor \"a\": elements [4, 7) of 6");
  EXPECT_EQ(refuses(slice_of("a", 4, 3)), "cannot save tensor \"a\": elements [4, 3) of 6");
  EXPECT_EQ(refuses({"a", {2}, "F32", "dense", 0, 2, nullptr}),
            "cannot save tensor \"a\": no data");
  EXPECT_EQ(refuses({"a", {2}, "F31", "dense", 0, 2, kValues}),
            "cannot save tensor \"a\": dtype and shape have no size in bytes");
  EXPECT_THROW(write_shard(folder.path(), 0, kSaveId, 1,
                           {slice_of("a", 0, 1), {"a", {6}, "F32", "dense", 1, 2, kValues}}),
               DataError);
}

TEST(ShardTest, TablesTravelAsText) {
  const ScratchFolder folder;
  const ShardTable table =
      write_shard(folder.path(), 0, kSaveId, 12, {slice_of("a", 0, 2), slice_of("a", 4, 6)});
  const ShardTable back = parse_table(table_text(table), "rank 0");
  EXPECT_EQ(table_text(back), table_text(table));
  EXPECT_EQ(back.tensors.at(0).slices.size(), 2u);
  EXPECT_THROW(parse_table("{}", "rank 0"), DataError);
}

ShardTable table_of(int rank, std::vector<TensorRecord> tensors) {
  return {{shard_name(rank), 8, 8, 0}, std::move(tensors)};
}

TEST(ShardTest, MergingSortsSlicesAndNamesTheirShard) {
  Manifest manifest;
  merge_tables({table_of(0, {{"a", {4}, "F32", "dense", {{2, 4, 0, 8, 8, 0}}}}),
                table_of(1, {{"a", {4}, "F32", "dense", {{0, 2, 0, 8, 8, 0}}}})},
               manifest);
  ASSERT_EQ(manifest.tensors.size(), 1u);
  EXPECT_EQ(manifest.tensors[0].slices[0].shard, 1u);
  EXPECT_EQ(manifest.tensors[0].slices[1].shard, 0u);
}

TEST(ShardTest, MergingNoticesRanksThatDisagree) {
  Manifest manifest;
  const std::string message = message_of<DataError>([&] {
    merge_tables({table_of(0, {{"a", {4}, "F32", "dense", {}}}),
                  table_of(1, {{"a", {4}, "BF16", "dense", {}}})},
                 manifest);
  });
  EXPECT_NE(message.find("tensor \"a\": rank 1 has another"), std::string::npos) << message;
}

}  // namespace
}  // namespace switchyard
