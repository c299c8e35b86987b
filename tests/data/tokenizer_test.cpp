#include "data/tokenizer.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/temp_folder.h"

namespace switchyard {
namespace {

constexpr const char* kTokenizer =
    R"({"model": {"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
    "pre_tokenizer": {"type": "ByteLevel"}, "added_tokens": [{"id": 3, "content": "</s>"}]})";

TEST(TokenizerTest, SpecsAreBytesHfAndTiktoken) {
  EXPECT_EQ(parse_tokenizer_spec("bytes").kind, TokenizerSpec::Kind::kBytes);
  EXPECT_EQ(parse_tokenizer_spec("hf:a/t.json").path, "a/t.json");
  EXPECT_EQ(parse_tokenizer_spec("tiktoken:x").kind, TokenizerSpec::Kind::kTiktoken);
  for (const char* bad : {"", "byte", "hf:", "t.json"})
    EXPECT_THROW(parse_tokenizer_spec(bad), ConfigError);
  const std::string text = message_of<ConfigError>([] { parse_tokenizer_spec("sp:model"); });
  EXPECT_NE(text.find("SentencePiece models are not built in"), std::string::npos) << text;
}

TEST(TokenizerTest, AFolderStandsForItsTokenizerJson) {
  const TempFolder folder;
  folder.write("tokenizer.json", kTokenizer);
  EXPECT_EQ(load_tokenizer("hf:" + folder.path())->encode("ab"), (std::vector<int32_t>{2}));
}

TEST(TokenizerTest, AMissingFileIsNamed) {
  const std::string text = message_of<DataError>([] { load_tokenizer("hf:none/t.json"); });
  EXPECT_NE(text.find("none/t.json"), std::string::npos) << text;
}

TEST(TokenizerTest, ADataFolderKeepsItsTokenizerAndKnowsIfItWasChanged) {
  const TempFolder folder;
  const std::string spec = "hf:" + folder.write("mine.json", kTokenizer);
  make_folder(folder / "data");
  DatasetMeta meta;
  adopt_tokenizer(spec, *load_tokenizer(spec), folder / "data", meta);
  EXPECT_EQ(meta.tokenizer, "hf:tokenizer.json");
  EXPECT_EQ(meta.vocab_size, 4);
  EXPECT_EQ(meta.eos, 3);
  remove_tree(folder / "mine.json");
  EXPECT_EQ(load_dataset_tokenizer(folder / "data", meta)->encode("ab"), (std::vector<int32_t>{2}));
  EXPECT_EQ(dataset_tokenizer_files(folder / "data", meta),
            (std::vector<std::string>{"tokenizer.json"}));
  meta.eos = 1;
  EXPECT_EQ(load_dataset_tokenizer(folder / "data", meta)->eos(), 1);
  folder.write("data/tokenizer.json", std::string(kTokenizer) + " ");
  const std::string text =
      message_of<DataError>([&] { load_dataset_tokenizer(folder / "data", meta); });
  EXPECT_NE(text.find("not the tokenizer that made the tokens"), std::string::npos) << text;
}

TEST(TokenizerTest, ATokenizerOfSomeoneElsesIsNamedWhenItIsNeeded) {
  const TempFolder folder;
  DatasetMeta meta;
  meta.tokenizer = "my own";
  EXPECT_TRUE(dataset_tokenizer_files(folder.path(), meta).empty());
  const std::string text =
      message_of<DataError>([&] { load_dataset_tokenizer(folder.path(), meta); });
  EXPECT_NE(text.find("meta.json: tokenizer \"my own\""), std::string::npos) << text;
  meta.tokenizer = "bytes";
  EXPECT_TRUE(dataset_tokenizer_files(folder.path(), meta).empty());
  EXPECT_EQ(load_dataset_tokenizer(folder.path(), meta)->eos(), 256);
}

}  // namespace
}  // namespace switchyard
