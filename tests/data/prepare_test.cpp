#include "data/prepare.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "data/temp_folder.h"
#include "data/token_dataset.h"

namespace switchyard {
namespace {

std::vector<int64_t> tokens_of(const std::string& dir, const std::string& split) {
  const TokenDataset dataset(dir, split);
  std::vector<int64_t> tokens(dataset.num_tokens());
  dataset.read(0, dataset.num_tokens(), tokens.data());
  return tokens;
}

TEST(PrepareTest, DocumentsAreOneStreamAndItsTailIsVal) {
  const TempFolder folder;
  PrepareOptions options;
  options.text = {folder.write("a.txt", "abc"), folder.write("b.txt", "de")};
  options.jsonl = {
      folder.write("c.jsonl", "{\"text\": \"f\"}\n\n{\"text\": \"\"}\n{\"text\": \"gh\"}")};
  options.out = folder / "out/prose";
  options.val_fraction = 0.4;  // 12 tokens: the last 5 begin inside "f" and its end
  const PrepareSummary summary = prepare(options);
  EXPECT_EQ(tokens_of(options.out, "train"),
            (std::vector<int64_t>{'a', 'b', 'c', 256, 'd', 'e', 256}));
  EXPECT_EQ(tokens_of(options.out, "val"), (std::vector<int64_t>{'f', 256, 'g', 'h', 256}));
  EXPECT_EQ(summary.empty_documents, 1);

  const DatasetMeta meta = read_dataset_meta(options.out);
  EXPECT_EQ(meta.documents, 4);
  EXPECT_EQ(meta.name, "prose");
  EXPECT_EQ(meta.tokenizer, "bytes");
  EXPECT_EQ(meta.vocab_size, 257);
  EXPECT_EQ(meta.eos, 256);
  EXPECT_EQ(meta.tokens, (std::map<std::string, int64_t>{{"train", 7}, {"val", 5}}));
  EXPECT_EQ(meta.bytes, (std::map<std::string, int64_t>{{"train", 5}, {"val", 3}}));
  EXPECT_EQ(meta.source, "a.txt, b.txt, c.jsonl");
}

TEST(PrepareTest, ACutDocumentsBytesAreSharedOut) {
  const TempFolder folder;
  PrepareOptions options;
  options.text = {folder.write("a.txt", "0123456789")};
  options.out = folder / "out";
  options.val_fraction = 0.5;  // 11 tokens: 6 of them
  const DatasetMeta meta = prepare(options).meta;
  EXPECT_EQ(meta.tokens, (std::map<std::string, int64_t>{{"train", 5}, {"val", 6}}));
  EXPECT_EQ(meta.bytes, (std::map<std::string, int64_t>{{"train", 5}, {"val", 5}}));
}

TEST(PrepareTest, WithoutAFractionThereIsNoVal) {
  const TempFolder folder;
  PrepareOptions options;
  options.text = {folder.write("a.txt", "abc")};
  options.out = folder / "out";
  prepare(options);
  EXPECT_TRUE(has_split(options.out, "val"));
  options.val_fraction = 0;
  prepare(options);
  EXPECT_FALSE(has_split(options.out, "val"));
  EXPECT_EQ(tokens_of(options.out, "train").size(), 4U);
}

TEST(PrepareTest, BytesTakeWhatIsNotUtf8) {
  const TempFolder folder;
  PrepareOptions options;
  options.text = {folder.write("a.bin", std::string("\xff\0\x80", 3))};
  options.out = folder / "out";
  options.val_fraction = 0;
  prepare(options);
  EXPECT_EQ(tokens_of(options.out, "train"), (std::vector<int64_t>{255, 0, 128, 256}));
}

TEST(PrepareTest, AFailureNamesTheLineAndLeavesNothing) {
  const TempFolder folder;
  PrepareOptions options;
  options.out = folder / "out";
  const auto complaint = [&](const std::string& lines) {
    options.jsonl = {folder.write("c.jsonl", lines)};
    return message_of<DataError>([&] { prepare(options); });
  };
  EXPECT_NE(complaint("{\"text\": \"a\"}\n{\"text\": }\n").find("c.jsonl:2: not valid JSON"),
            std::string::npos);
  EXPECT_NE(
      complaint("{\"text\": \"a\"}\n\n{\"body\": \"b\"}\n").find("c.jsonl:3: \"text\" is missing"),
      std::string::npos);
  EXPECT_NE(complaint("[1]\n").find("c.jsonl:1: not a JSON object"), std::string::npos);
  EXPECT_NE(complaint("{\"text\": 3}\n").find("c.jsonl:1: \"text\" is not a string"),
            std::string::npos);
  EXPECT_NE(complaint("\n").find("c.jsonl: holds no document"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(options.out));
}

TEST(PrepareTest, AFailureKeepsTheFolderThatWasThere) {
  const TempFolder folder;
  PrepareOptions options;
  options.text = {folder.write("a.txt", "abc")};
  options.out = folder / "out";
  prepare(options);
  const auto before = list_folder(options.out);
  options.text.push_back(folder / "missing.txt");
  const std::string text = message_of<DataError>([&] { prepare(options); });
  EXPECT_NE(text.find("missing.txt"), std::string::npos) << text;
  options.text = {folder.write("empty.txt", "")};
  EXPECT_THROW(prepare(options), DataError);
  EXPECT_EQ(list_folder(options.out), before);
  EXPECT_EQ(tokens_of(options.out, "train").size() + tokens_of(options.out, "val").size(), 4U);
}

TEST(PrepareTest, ImpossibleOptionsAreTheUsers) {
  const TempFolder folder;
  PrepareOptions options;
  EXPECT_THROW(prepare(options), ConfigError);
  options.text = {folder.write("a.txt", "abc")};
  EXPECT_THROW(prepare(options), ConfigError);
  options.out = folder / "out";
  options.val_fraction = 1;
  EXPECT_THROW(prepare(options), ConfigError);
  options.val_fraction = 0.5;
  options.tokenizer = "sp:model";
  EXPECT_THROW(prepare(options), ConfigError);
  EXPECT_FALSE(std::filesystem::exists(options.out));
}

}  // namespace
}  // namespace switchyard
