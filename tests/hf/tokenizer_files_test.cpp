#include "hf/tokenizer_files.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/scratch_folder.h"
#include "data/tokenizer.h"

namespace switchyard {
namespace {

using nlohmann::json;

constexpr const char* kBytesMeta =
    R"({"tokenizer": "bytes", "vocab_size": 257, "eos": 256, "dtype": "uint16"})";
constexpr const char* kFileMeta =
    R"({"tokenizer": "hf:own.json", "vocab_size": 9, "eos": 3, "dtype": "uint16"})";
constexpr const char* kTokenizer =
    R"({"added_tokens": [{"id": 2, "content": "<s>"}, {"id": 3, "content": "</s>"}]})";

json config_of(const TokenizerFiles& files) {
  return json::parse(*find_file(files.files, "tokenizer_config.json"));
}

TEST(TokenizerFilesTest, BytesBecomeATokenizerThatReadsThemAlike) {
  const TokenizerFiles made = tokenizer_files({{"meta.json", kBytesMeta}});
  EXPECT_EQ(made.missing, "");
  EXPECT_EQ(config_of(made)["eos_token"], "<|endoftext|>");
  const ScratchFolder folder;
  write_file_atomically(folder / "tokenizer.json", *find_file(made.files, "tokenizer.json"));
  const auto tokenizer = load_tokenizer("hf:" + folder.path());
  EXPECT_EQ(tokenizer->eos(), 256);
  EXPECT_EQ(tokenizer->vocab_size(), 257);
  const std::string text = "A truth, \n\t caf\xc3\xa9 \xe6\x97\xa5 'tis 1813\x01\x7f";
  EXPECT_EQ(tokenizer->encode(text), load_tokenizer("bytes")->encode(text));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
}

TEST(TokenizerFilesTest, ATokenizerOfAnotherNameIsTokenizerJson) {
  const TokenizerFiles made =
      tokenizer_files({{"meta.json", kFileMeta}, {"own.json", kTokenizer}, {"receipt.json", "{}"}});
  EXPECT_EQ(made.files.size(), 2u);
  EXPECT_EQ(*find_file(made.files, "tokenizer.json"), kTokenizer);
  const json expected = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                         {"clean_up_tokenization_spaces", false},
                         {"eos_token", "</s>"}};
  EXPECT_EQ(config_of(made), expected);
}

TEST(TokenizerFilesTest, WhatWasCarriedIsKeptAndReadByBothVersions) {
  const char* config = R"({"tokenizer_class": "TokenizersBackend", "backend": "tokenizers",
    "auto_map": {"AutoTokenizer": ["x", null]}, "eos_token": "<e>", "model_max_length": 77,
    "extra_special_tokens": ["<a>", "<b>"]})";
  const TokenizerFiles made = tokenizer_files({{"tokenizer.json", kTokenizer},
                                               {"tokenizer_config.json", config},
                                               {"chat_template.jinja", "{{ x }}"},
                                               {"special_tokens_map.json", "{}"}});
  const json expected = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                         {"eos_token", "<e>"},
                         {"model_max_length", 77},
                         {"additional_special_tokens", {"<a>", "<b>"}}};
  EXPECT_EQ(config_of(made), expected);
  EXPECT_EQ(*find_file(made.files, "chat_template.jinja"), "{{ x }}");
  EXPECT_EQ(*find_file(made.files, "special_tokens_map.json"), "{}");
}

TEST(TokenizerFilesTest, SaysWhyThereIsNone) {
  EXPECT_EQ(tokenizer_files({}).missing, "the model came without a tokenizer");
  const char* meta = R"({"tokenizer": "tiktoken:a", "vocab_size": 9, "eos": 3, "dtype": "uint16"})";
  const TokenizerFiles made = tokenizer_files({{"meta.json", meta}, {"a", "x"}});
  EXPECT_EQ(made.missing, "the model's tokenizer, tiktoken:a, has no tokenizer.json");
  EXPECT_TRUE(made.files.empty());
  EXPECT_NE(tokenizer_files({{"meta.json", kFileMeta}}).missing, "") << "its file is not there";
}

TEST(TokenizerFilesTest, NamesTheFileThatIsNotWhatItShouldBe) {
  const auto broken = [](const char* config) {
    return message_of<DataError>([&] {
      tokenizer_files({{"tokenizer.json", kTokenizer}, {"tokenizer_config.json", config}});
    });
  };
  EXPECT_EQ(broken("[]"), "tokenizer_config.json: not a JSON object");
  EXPECT_NE(broken("{").find("tokenizer_config.json"), std::string::npos);
}

}  // namespace
}  // namespace switchyard
