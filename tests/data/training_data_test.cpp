#include "data/training_data.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "base/error.h"
#include "data/prepare.h"
#include "data/temp_folder.h"

namespace switchyard {
namespace {

constexpr int64_t kLength = 4;

/// A folder whose train split is `tokens` tokens: 0, 1, 2, ... modulo 256, and the end.
std::string counting_source(const TempFolder& folder, const std::string& name, int64_t tokens) {
  std::string text(tokens - 1, '\0');
  std::iota(text.begin(), text.end(), 0);
  PrepareOptions options;
  options.text = {folder.write(name + ".txt", text)};
  options.out = folder / name;
  options.val_fraction = 0;
  prepare(options);
  return options.out;
}

DataConfig config_of(const std::vector<DataSource>& sources) {
  DataConfig config;
  config.path = sources;
  config.sequence_length = kLength;
  return config;
}

TEST(TrainingDataTest, AnEpochIsAShuffleOfAllSamplesAndNeighboursShareAToken) {
  const TempFolder folder;
  const TrainingData data(config_of({{counting_source(folder, "a", 101), 1, ""}}), 7);
  ASSERT_EQ(data.samples_in_source(0), 25);
  std::vector<std::vector<uint64_t>> epochs;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    const SampleBatch batch = data.read(epoch * 25, 25);
    for (int64_t i = 0; i < 25; ++i) {
      const auto begin = static_cast<int64_t>(batch.ids[i]) * kLength;
      for (int64_t t = 0; t <= kLength; ++t) {
        const int64_t expected = begin + t == 100 ? 256 : begin + t;
        EXPECT_EQ(batch.tokens[i * (kLength + 1) + t], expected);
      }
    }
    EXPECT_EQ(std::set<uint64_t>(batch.ids.begin(), batch.ids.end()).size(), 25U);
    EXPECT_FALSE(std::is_sorted(batch.ids.begin(), batch.ids.end()));
    epochs.push_back(batch.ids);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
}

TEST(TrainingDataTest, AnySlicingSeesTheSameOrder) {
  const TempFolder folder;
  const TrainingData data(config_of({{counting_source(folder, "a", 101), 0.7, ""},
                                     {counting_source(folder, "b", 60), 0.3, ""}}),
                          7);
  const SampleBatch whole = data.read(0, 120);
  for (int64_t i = 0; i < 120; ++i) {
    const SampleBatch one = data.read(i, 1);
    EXPECT_EQ(one.ids[0], whole.ids[i]);
    EXPECT_EQ(one.order[0], i);
    EXPECT_TRUE(
        std::equal(one.tokens.begin(), one.tokens.end(), whole.tokens.begin() + i * (kLength + 1)));
  }
}

TEST(TrainingDataTest, ABlendKeepsItsSharesAndEverySourceItsEpochs) {
  const TempFolder folder;
  const TrainingData data(config_of({{counting_source(folder, "a", 101), 0.7, "first"},
                                     {counting_source(folder, "b", 60), 0.3, ""}}),
                          7);
  EXPECT_EQ(data.source_name(0), "first");
  EXPECT_EQ(data.source_name(1), "b");
  const SampleBatch batch = data.read(0, 100);
  EXPECT_EQ(std::count(batch.source.begin(), batch.source.end(), 0), 70);
  std::vector<uint64_t> of_b;
  for (int64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(batch.ids[i] >> 40, static_cast<uint64_t>(batch.source[i]));
    if (batch.source[i] == 1) of_b.push_back(batch.ids[i]);
  }
  ASSERT_EQ(data.samples_in_source(1), 14);
  EXPECT_EQ(std::set<uint64_t>(of_b.begin(), of_b.begin() + 14).size(), 14U);
  EXPECT_EQ(std::set<uint64_t>(of_b.begin() + 14, of_b.begin() + 28).size(), 14U);
}

TEST(TrainingDataTest, SeedAndNothingElseChangesTheOrder) {
  const TempFolder folder;
  const std::string path = counting_source(folder, "a", 101);
  const TrainingData data(config_of({{path, 1, ""}}), 7), renamed(config_of({{path, 2, "x"}}), 7),
      reseeded(config_of({{path, 1, ""}}), 8);
  EXPECT_EQ(data.read(0, 25).ids, renamed.read(0, 25).ids);
  EXPECT_NE(data.read(0, 25).ids, reseeded.read(0, 25).ids);
  EXPECT_EQ(data.fingerprint(), renamed.fingerprint());
  EXPECT_EQ(data.fingerprint(), reseeded.fingerprint());
}

TEST(TrainingDataTest, FingerprintKnowsTokensSharesAndLength) {
  const TempFolder folder;
  const std::string a = counting_source(folder, "a", 101), b = counting_source(folder, "b", 60);
  const auto of = [](const DataConfig& config) { return TrainingData(config, 7).fingerprint(); };
  const std::string one = of(config_of({{a, 1, ""}}));
  EXPECT_NE(of(config_of({{b, 1, ""}})), one);
  EXPECT_NE(of(config_of({{a, 1, ""}, {b, 1, ""}})), of(config_of({{a, 1, ""}, {b, 2, ""}})));
  DataConfig longer = config_of({{a, 1, ""}});
  longer.sequence_length = 5;
  EXPECT_NE(of(longer), one);
}

TEST(TrainingDataTest, TooFewTokensAndForeignTokenizersAreExplained) {
  const TempFolder folder;
  const std::string small = counting_source(folder, "small", kLength);
  const std::string text = message_of<DataError>([&] {
    TrainingData(config_of({{small, 1, ""}}), 7);
  });
  EXPECT_NE(text.find("lower data.sequence_length"), std::string::npos) << text;

  const std::string a = counting_source(folder, "a", 101), b = counting_source(folder, "b", 60);
  folder.write("b/meta.json",
               R"({"tokenizer": "t", "vocab_size": 300, "eos": 9, "dtype": "uint16"})");
  const std::string other = message_of<ConfigError>([&] {
    TrainingData(config_of({{a, 1, ""}, {b, 1, ""}}), 7);
  });
  EXPECT_NE(other.find("different tokenizers"), std::string::npos) << other;
}

// 101 tokens are 0 ... 99 and the end; 61 are 0 ... 59 and the end.
TEST(TrainingDataTest, CountsTokensInAnyNumberOfParts) {
  const TempFolder folder;
  const TrainingData data(config_of({{counting_source(folder, "a", 101), 1, ""}}), 7);
  std::vector<int64_t> expected(data.vocab_size(), 0);
  for (int64_t v = 0; v < 100; ++v) expected[v] = 1;
  expected[256] = 1;
  for (const int64_t parts : {1, 2, 3, 8, 150}) {
    std::vector<int64_t> sum(data.vocab_size(), 0);
    for (int64_t part = 0; part < parts; ++part) {
      const std::vector<int64_t> counts = data.source(0).count_tokens(part, parts);
      for (size_t v = 0; v < sum.size(); ++v) sum[v] += counts[v];
    }
    EXPECT_EQ(sum, expected) << parts;
  }
  EXPECT_EQ(data.blended_counts({expected}), expected);
}

TEST(TrainingDataTest, CountsOfABlendAreWeighedByItsShares) {
  const TempFolder folder;
  const TrainingData data(config_of({{counting_source(folder, "a", 101), 0.75, ""},
                                     {counting_source(folder, "b", 61), 0.25, ""}}),
                          7);
  std::vector<int64_t> first(257, 0), second(257, 0);
  first[0] = 60, first[1] = 40;     // 100 tokens
  second[1] = 240, second[2] = 60;  // 300 tokens, of which the blend takes a quarter
  const std::vector<int64_t> counts = data.blended_counts({first, second});
  EXPECT_EQ(counts[0], 180);       // 0.75 * 400 / 100 * 60
  EXPECT_EQ(counts[1], 120 + 80);  // 0.25 * 400 / 300 * 240
  EXPECT_EQ(counts[2], 20);
  EXPECT_EQ(counts[3], 0);
}

}  // namespace
}  // namespace switchyard
