#include "data/dataset_meta.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/temp_folder.h"

namespace switchyard {
namespace {

TEST(DatasetMetaTest, FourKeysAreEnough) {
  const TempFolder folder;
  folder.write("meta.json", R"({"tokenizer": "mine", "vocab_size": 10, "eos": 9, "dtype": "int32",
                               "author": {"unknown keys": "are let be"}})");
  const DatasetMeta meta = read_dataset_meta(folder.path());
  EXPECT_EQ(meta.tokenizer, "mine");
  EXPECT_EQ(meta.vocab_size, 10);
  EXPECT_EQ(meta.eos, 9);
  EXPECT_EQ(meta.dtype, TokenType::kInt32);
  EXPECT_TRUE(meta.bytes.empty());
  EXPECT_FALSE(meta.documents);
}

TEST(DatasetMetaTest, ReadsBackWhatItWrites) {
  const TempFolder folder;
  DatasetMeta meta;
  meta.tokenizer = "hf:tokenizer.json";
  meta.tokenizer_digest = "0123456789abcdef";
  meta.vocab_size = 8192;
  meta.name = "prose";
  meta.bytes = {{"train", 90}, {"val", 10}};
  meta.tokens = {{"train", 9}, {"val", 1}};
  meta.documents = 3;
  meta.source = "a.txt";
  meta.licence = "public domain";
  write_dataset_meta(folder.path(), meta);
  const DatasetMeta back = read_dataset_meta(folder.path());
  EXPECT_EQ(back.tokenizer, meta.tokenizer);
  EXPECT_EQ(back.tokenizer_digest, meta.tokenizer_digest);
  EXPECT_EQ(back.vocab_size, 8192);
  EXPECT_EQ(back.dtype, TokenType::kUint16);
  EXPECT_EQ(back.name, "prose");
  EXPECT_EQ(back.bytes, meta.bytes);
  EXPECT_EQ(back.tokens, meta.tokens);
  EXPECT_EQ(back.documents, 3);
  EXPECT_EQ(back.source, "a.txt");
  EXPECT_EQ(back.licence, "public domain");
}

TEST(DatasetMetaTest, BytesMayBeOneNumber) {
  const TempFolder folder;
  folder.write(
      "meta.json",
      R"({"tokenizer": "t", "vocab_size": 10, "eos": 9, "dtype": "uint16", "bytes": 100})");
  EXPECT_EQ(read_dataset_meta(folder.path()).bytes_total, 100);
}

TEST(DatasetMetaTest, NamesTheKeyThatIsWrong) {
  const TempFolder folder;
  const auto complaint = [&folder](const std::string& json) {
    folder.write("meta.json", json);
    return message_of<DataError>([&] { read_dataset_meta(folder.path()); });
  };
  EXPECT_NE(complaint(R"({"vocab_size": 10, "eos": 9, "dtype": "uint16"})").find("tokenizer"),
            std::string::npos);
  EXPECT_NE(complaint(R"({"tokenizer": "t", "vocab_size": 10, "eos": 10, "dtype": "uint16"})")
                .find("eos 10"),
            std::string::npos);
  EXPECT_NE(complaint(R"({"tokenizer": "t", "vocab_size": 10, "eos": 1, "dtype": "float"})")
                .find("\"float\""),
            std::string::npos);
  EXPECT_NE(complaint(R"({"tokenizer": "t", "vocab_size": 0, "eos": 0, "dtype": "int32"})")
                .find("vocab_size 0"),
            std::string::npos);
}

TEST(DatasetMetaTest, AMissingFileNamesTheCommandThatMakesIt) {
  const TempFolder folder;
  const std::string text = message_of<DataError>([&] { read_dataset_meta(folder / "none"); });
  EXPECT_NE(text.find("switchyard prepare"), std::string::npos) << text;
}

TEST(DatasetMetaTest, TokenizersAreTheSameWhenTheirDigestsAre) {
  DatasetMeta a, b;
  a.vocab_size = b.vocab_size = 100;
  a.tokenizer = "hf:a.json";
  b.tokenizer = "hf:b.json";
  EXPECT_FALSE(same_tokenizer(a, b));
  a.tokenizer_digest = b.tokenizer_digest = "00000000000000aa";
  EXPECT_TRUE(same_tokenizer(a, b));
  b.tokenizer_digest = "00000000000000ab";
  EXPECT_FALSE(same_tokenizer(a, b));
}

}  // namespace
}  // namespace switchyard
