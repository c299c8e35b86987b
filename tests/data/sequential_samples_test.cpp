#include "data/sequential_samples.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/prepare.h"
#include "data/temp_folder.h"

namespace switchyard {
namespace {

TokenDataset dataset_of(const TempFolder& folder, const std::string& text) {
  PrepareOptions options;
  options.text = {folder.write("a.txt", text)};
  options.out = folder / "out";
  options.val_fraction = 0;
  prepare(options);
  return TokenDataset(options.out, "train");
}

TEST(SequentialSamplesTest, EveryTokenButTheFirstIsATargetOnce) {
  const TempFolder folder;
  const TokenDataset dataset = dataset_of(folder, "abcdefgh");  // 9 tokens, 8 targets
  for (int64_t length = 1; length <= 10; ++length) {
    const SequentialSamples samples(dataset, length);
    const SampleBatch batch = samples.read(0, samples.count());
    std::vector<int64_t> targets;
    for (int64_t i = 0; i < batch.count; ++i) {
      const int64_t* sample = batch.tokens.data() + i * (length + 1);
      targets.insert(targets.end(), sample + 1, sample + 1 + batch.valid[i]);
    }
    EXPECT_EQ(targets, (std::vector<int64_t>{'b', 'c', 'd', 'e', 'f', 'g', 'h', 256})) << length;
    EXPECT_EQ(samples.num_targets(), 8);
  }
}

TEST(SequentialSamplesTest, AShortSampleIsFilledWithEndOfText) {
  const TempFolder folder;
  const TokenDataset dataset = dataset_of(folder, "abcd");
  const SequentialSamples samples(dataset, 3);
  ASSERT_EQ(samples.count(), 2);
  const SampleBatch last = samples.read(1, 1);
  EXPECT_EQ(last.valid, (std::vector<int64_t>{1}));
  EXPECT_EQ(last.tokens, (std::vector<int64_t>{'d', 256, 256, 256}));
  EXPECT_EQ(last.order, (std::vector<int64_t>{1}));
}

TEST(SequentialSamplesTest, OneTokenIsNothingToPredict) {
  const TempFolder folder;
  TokenShardWriter writer(folder / "val", TokenType::kUint16);
  writer.append(std::vector<int32_t>{1});
  writer.finish();
  folder.write("meta.json", R"({"tokenizer": "t", "vocab_size": 10, "eos": 9, "dtype": "uint16"})");
  const TokenDataset dataset(folder.path(), "val");
  EXPECT_THROW(SequentialSamples(dataset, 4), DataError);
}

}  // namespace
}  // namespace switchyard
