#include "data/token_shard.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/temp_folder.h"

namespace switchyard {
namespace {

std::vector<int64_t> read_all(const TokenShard& shard) {
  std::vector<int64_t> tokens(shard.num_tokens());
  shard.read(0, shard.num_tokens(), tokens.data());
  return tokens;
}

void write_shard(const std::string& prefix, const std::vector<std::vector<int32_t>>& documents,
                 TokenType type = TokenType::kUint16) {
  TokenShardWriter writer(prefix, type);
  for (const auto& document : documents) {
    writer.append(document);
    writer.end_document();
  }
  writer.finish();
}

TEST(TokenShardTest, TypeFollowsMegatronsChoice) {
  EXPECT_EQ(token_type_for(65499), TokenType::kUint16);
  EXPECT_EQ(token_type_for(65500), TokenType::kInt32);
}

TEST(TokenShardTest, WritesTheDocumentedBytes) {
  const TempFolder folder;
  write_shard(folder / "train", {{1, 2, 3}, {65535}});
  const std::string bin = read_file(folder / "train.bin");
  EXPECT_EQ(bin, std::string("\1\0\2\0\3\0\377\377", 8));
  const std::string idx = read_file(folder / "train.idx");
  const std::string expected =
      std::string("MMIDIDX\0\0", 9) + std::string("\1\0\0\0\0\0\0\0", 8) + "\x08" +
      std::string("\2\0\0\0\0\0\0\0", 8) + std::string("\3\0\0\0\0\0\0\0", 8) +
      std::string("\3\0\0\0\1\0\0\0", 8) + std::string("\0\0\0\0\0\0\0\0\6\0\0\0\0\0\0\0", 16) +
      std::string("\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0", 24);
  EXPECT_EQ(idx, expected);
}

TEST(TokenShardTest, ReadsBackBothTypes) {
  const TempFolder folder;
  for (const TokenType type : {TokenType::kUint16, TokenType::kInt32}) {
    write_shard(folder / "s", {{5, 6}, {7, 8, 9}}, type);
    const TokenShard shard(folder / "s");
    EXPECT_EQ(shard.type(), type);
    EXPECT_EQ(shard.num_documents(), 2);
    EXPECT_EQ(read_all(shard), (std::vector<int64_t>{5, 6, 7, 8, 9}));
    std::vector<int64_t> middle(2);
    shard.read(1, 2, middle.data());
    EXPECT_EQ(middle, (std::vector<int64_t>{6, 7}));
  }
}

TEST(TokenShardTest, RefusesATokenThatTheTypeDoesNotHold) {
  const TempFolder folder;
  TokenShardWriter writer(folder / "s", TokenType::kUint16);
  const std::vector<int32_t> tokens = {65536};
  EXPECT_THROW(writer.append(tokens), DataError);
}

TEST(TokenShardTest, TailIsCutWhereItIsAskedFor) {
  const TempFolder folder;
  const std::vector<int64_t> all = {1, 2, 3, 4, 5, 6};
  for (int64_t tail_tokens = 1; tail_tokens < 6; ++tail_tokens) {
    TokenShardWriter writer(folder / "train", TokenType::kUint16);
    for (const auto& document : std::vector<std::vector<int32_t>>{{1, 2}, {3, 4, 5}, {6}}) {
      writer.append(document);
      writer.end_document();
    }
    const auto tail = writer.finish_with_tail(folder / "val", tail_tokens);
    const TokenShard head(folder / "train"), val(folder / "val");
    std::vector<int64_t> joined = read_all(head);
    EXPECT_EQ(val.num_tokens(), tail_tokens);
    EXPECT_EQ(val.num_documents(), tail.documents);
    for (const int64_t token : read_all(val)) joined.push_back(token);
    EXPECT_EQ(joined, all);
    EXPECT_EQ(tail.cut_tokens > 0, tail_tokens != 1 && tail_tokens != 4) << tail_tokens;
    EXPECT_EQ(head.num_documents() + val.num_documents(), tail.cut_tokens > 0 ? 4 : 3);
  }
}

TEST(TokenShardTest, FingerprintTellsContentsApart) {
  const TempFolder folder;
  write_shard(folder / "a", {{1, 2, 3}});
  write_shard(folder / "b", {{1, 2, 3}});
  write_shard(folder / "c", {{1, 2, 4}});
  write_shard(folder / "d", {{1, 2}, {3}});
  const uint64_t a = TokenShard(folder / "a").fingerprint();
  EXPECT_EQ(TokenShard(folder / "b").fingerprint(), a);
  EXPECT_NE(TokenShard(folder / "c").fingerprint(), a);
  EXPECT_NE(TokenShard(folder / "d").fingerprint(), a);
}

// Every cut of either file, and every single byte of the header and the arrays
// turned over, is found when the shard is opened.
TEST(TokenShardTest, FindsEveryCutAndEveryTurnedByteOfTheIndex) {
  const TempFolder folder;
  write_shard(folder / "s", {{1, 2, 3}, {4}});
  const std::string idx = read_file(folder / "s.idx"), bin = read_file(folder / "s.bin");
  for (size_t size = 0; size < idx.size(); ++size) {
    folder.write("s.idx", idx.substr(0, size));
    EXPECT_THROW(TokenShard{folder / "s"}, DataError) << size;
  }
  for (size_t i = 0; i < idx.size(); ++i) {
    std::string damaged = idx;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x81);
    folder.write("s.idx", damaged);
    EXPECT_THROW(TokenShard{folder / "s"}, DataError) << i;
  }
  folder.write("s.idx", idx);
  for (size_t size = 0; size < bin.size(); ++size) {
    folder.write("s.bin", bin.substr(0, size));
    EXPECT_THROW(TokenShard{folder / "s"}, DataError) << size;
  }
  folder.write("s.bin", bin);
  EXPECT_NO_THROW(TokenShard{folder / "s"});
}

TEST(TokenShardTest, NamesWhatIsWrong) {
  const TempFolder folder;
  write_shard(folder / "s", {{1, 2, 3}});
  folder.write("s.bin", "12345");
  const std::string torn = message_of<DataError>([&] { TokenShard{folder / "s"}; });
  EXPECT_NE(torn.find("s.bin: has 5 bytes where its index says 6"), std::string::npos) << torn;
  folder.write("s.idx", std::string(64, 'x'));
  const std::string foreign = message_of<DataError>([&] { TokenShard{folder / "s"}; });
  EXPECT_NE(foreign.find("s.idx: not a Megatron token index"), std::string::npos) << foreign;
}

}  // namespace
}  // namespace switchyard
