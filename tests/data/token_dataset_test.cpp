#include "data/token_dataset.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "data/temp_folder.h"

namespace switchyard {
namespace {

void write_split(const TempFolder& folder, const std::string& split,
                 const std::vector<int32_t>& tokens) {
  TokenShardWriter writer(folder / split, TokenType::kUint16);
  writer.append(tokens);
  writer.end_document();
  writer.finish();
}

void write_meta(const TempFolder& folder, const std::string& more = "") {
  folder.write("meta.json",
               R"({"tokenizer": "t", "vocab_size": 10, "eos": 9, "dtype": "uint16")" + more + "}");
}

TEST(TokenDatasetTest, ReadsASplit) {
  const TempFolder folder;
  write_split(folder, "val", {1, 2, 3, 9});
  write_meta(folder);
  const TokenDataset dataset(folder.path(), "val");
  EXPECT_EQ(dataset.num_tokens(), 4);
  std::vector<int64_t> tokens(2);
  dataset.read(2, 2, tokens.data());
  EXPECT_EQ(tokens, (std::vector<int64_t>{3, 9}));
}

TEST(TokenDatasetTest, NamesThePositionOfATokenBeyondTheVocabulary) {
  const TempFolder folder;
  write_split(folder, "train", {1, 2, 10});
  write_meta(folder);
  const TokenDataset dataset(folder.path(), "train");
  std::vector<int64_t> tokens(2);
  EXPECT_NO_THROW(dataset.read(0, 2, tokens.data()));
  const std::string text = message_of<DataError>([&] { dataset.read(1, 2, tokens.data()); });
  EXPECT_NE(text.find("train.bin: token 2 is 10"), std::string::npos) << text;
}

TEST(TokenDatasetTest, AMissingSplitAndAForeignDtypeAreNamed) {
  const TempFolder folder;
  write_split(folder, "train", {1});
  write_meta(folder);
  const std::string missing = message_of<DataError>([&] { TokenDataset(folder.path(), "val"); });
  EXPECT_NE(missing.find("val.idx: not there"), std::string::npos) << missing;
  folder.write("meta.json", R"({"tokenizer": "t", "vocab_size": 10, "eos": 9, "dtype": "int32"})");
  const std::string dtype = message_of<DataError>([&] { TokenDataset(folder.path(), "train"); });
  EXPECT_NE(dtype.find("says dtype int32"), std::string::npos) << dtype;
}

TEST(TokenDatasetTest, BitsPerByteFollowTheSplitsOwnBytes) {
  const TempFolder folder;
  write_split(folder, "train", {1, 2, 3, 4, 5, 6});
  write_split(folder, "val", {1, 2});
  write_meta(folder, R"(, "bytes": {"train": 12, "val": 8})");
  EXPECT_DOUBLE_EQ(TokenDataset(folder.path(), "val").bits_per_byte(std::log(2.0)).value(), 0.25);
  EXPECT_DOUBLE_EQ(TokenDataset(folder.path(), "train").bits_per_byte(std::log(2.0)).value(), 0.5);
  write_meta(folder, R"(, "bytes": 16)");
  EXPECT_DOUBLE_EQ(TokenDataset(folder.path(), "val").bytes_per_token().value(), 2.0);
  write_meta(folder);
  EXPECT_FALSE(TokenDataset(folder.path(), "val").bits_per_byte(1.0));
}

TEST(TokenDatasetTest, FingerprintDoesNotKnowTheFolder) {
  const TempFolder folder;
  make_folders(folder / "a");
  make_folders(folder / "b");
  for (const std::string name : {"a", "b"}) {
    TokenShardWriter writer(folder / name + "/train", TokenType::kUint16);
    writer.append(std::vector<int32_t>{1, 2, 3});
    writer.finish();
    folder.write(name + "/meta.json",
                 R"({"tokenizer": "t", "vocab_size": 10, "eos": 9, "dtype": "uint16"})");
  }
  const uint64_t a = TokenDataset(folder / "a", "train").fingerprint();
  EXPECT_EQ(TokenDataset(folder / "b", "train").fingerprint(), a);
  folder.write("b/meta.json",
               R"({"tokenizer": "t", "vocab_size": 11, "eos": 9, "dtype": "uint16"})");
  EXPECT_NE(TokenDataset(folder / "b", "train").fingerprint(), a);
}

}  // namespace
}  // namespace switchyard
