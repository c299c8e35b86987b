#include "bench/random_tokens.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "config/load_config.h"
#include "distributed/runtime.h"

namespace switchyard {
namespace {

class RandomTokensTest : public testing::Test {
 protected:
  RandomTokensTest()
      : runtime_(argc_, argv_), session_(runtime_, small_config()), tokens_(session_) {}

  static RunConfig small_config() {
    RunConfig config;
    config.data.sequence_length = 8;
    config.model.vocab_size = 64;
    config.model.hidden_size = 16;
    config.model.num_hidden_layers = 1;
    config.model.num_attention_heads = 2;
    config.moe.num_experts = 4;
    config.train.global_batch_size = 4;
    config.train.micro_batch_size = 2;
    resolve_autos(config.model);
    return config;
  }

 private:
  int argc_ = 0;
  char** argv_ = nullptr;

 protected:
  Runtime runtime_;
  Session session_;
  RandomTokens tokens_;
};

std::vector<int64_t> values(const at::Tensor& x) {
  const at::Tensor flat = x.contiguous();
  return {flat.data_ptr<int64_t>(), flat.data_ptr<int64_t>() + flat.numel()};
}

// The numbers are torch.randint(0, 64, (4, 9)) of a generator seeded with 1234, as the peers
// draw them.
TEST_F(RandomTokensTest, AreThoseThatThePeersDraw) {
  const std::vector<MicroBatch> first = tokens_.step(0);
  ASSERT_EQ(first.size(), 2U);
  EXPECT_EQ(values(first[1].input.tokens_BS[0]),
            (std::vector<int64_t>{26, 54, 58, 56, 48, 28, 5, 16}));
  EXPECT_EQ(values(first[1].targets_T.narrow(0, 0, 8)),
            (std::vector<int64_t>{54, 58, 56, 48, 28, 5, 16, 9}));
  EXPECT_EQ(values(tokens_.step(1)[1].input.tokens_BS[1]),
            (std::vector<int64_t>{28, 17, 23, 13, 52, 32, 12, 5}));
}

TEST_F(RandomTokensTest, ComeRoundAfterFourSteps) {
  EXPECT_TRUE(at::equal(tokens_.step(5)[0].targets_T, tokens_.step(1)[0].targets_T));
  EXPECT_FALSE(at::equal(tokens_.step(2)[0].targets_T, tokens_.step(1)[0].targets_T));
}

TEST_F(RandomTokensTest, CountsAreOfTheWholePool) {
  const at::Tensor counts_V = tokens_.counts_V();
  EXPECT_EQ(counts_V.sum().item<int64_t>(), 4 * 4 * 9);
  EXPECT_EQ(values(counts_V.narrow(0, 0, 4)), (std::vector<int64_t>{2, 1, 1, 3}));
}

}  // namespace
}  // namespace switchyard
