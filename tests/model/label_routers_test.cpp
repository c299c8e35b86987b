// Routers that need more of a token than its hidden state, in generation: with a cache of the
// tokens before they choose as in one pass over all of them.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "model/sample_decoder.h"
#include "support/tensors.h"

// B sequences of S tokens.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t kLength = 12;

/// Logits of two sequences, the first `prompt` tokens at once and the others one by one.
Tensor in_steps(const SampleDecoder& sample, const DecoderInput& whole, int64_t prompt) {
  KvCache cache;
  std::vector<Tensor> pieces;
  for (int64_t s = 0; s < kLength; s += s == 0 ? prompt : 1) {
    DecoderInput piece = whole;
    piece.tokens_BS = whole.tokens_BS.narrow(1, s, s == 0 ? prompt : 1);
    pieces.push_back(sample.logits(piece, &cache));
  }
  return at::cat(pieces, 1);
}

void expect_steps_equal_one_pass(const MoeConfig& moe) {
  const Mesh mesh = solo_mesh();
  const SampleDecoder sample(small_model(), moe, mesh);
  DecoderInput whole = input_of(sample_tokens(2, kLength));
  whole.domains_B = at::tensor({3, 1}, at::kLong);
  for (const int64_t prompt : {1, 5, 12}) {
    EXPECT_TRUE(near(in_steps(sample, whole, prompt), sample.logits(whole), 1e-4)) << prompt;
  }
}

MoeConfig moe_of(const char* type, int64_t top_k = 1) {
  MoeConfig moe = small_moe();
  moe.router.type = type;
  moe.top_k = top_k;
  return moe;
}

TEST(LabelRoutersTest, R4_GenerationWithACacheIsTheFullPass) {
  for (const char* method : {"random", "balanced", "bigram", "previous", "position"}) {
    SCOPED_TRACE(method);
    MoeConfig moe = moe_of("hash", 2);
    moe.router.hash = {method, 2};
    expect_steps_equal_one_pass(moe);
  }
}

TEST(LabelRoutersTest, P1_GenerationWithACacheIsTheFullPass) {
  expect_steps_equal_one_pass(moe_of("domain"));
}

TEST(LabelRoutersTest, P5_GenerationWithACacheIsTheFullPass) {
  MoeConfig moe = moe_of("sequence");
  moe.shared_experts = {1, 6, true};
  expect_steps_equal_one_pass(moe);
}

TEST(LabelRoutersTest, R4_LaterTokensChangeNoEarlierLogits) {
  for (const char* method : {"random", "bigram", "previous", "position"}) {
    MoeConfig moe = moe_of("hash");
    moe.router.hash.method = method;
    const Mesh mesh = solo_mesh();
    const SampleDecoder sample(small_model(), moe, mesh);
    const Tensor tokens_BS = sample_tokens(2, kLength);
    Tensor others_BS = tokens_BS.clone();
    others_BS.narrow(1, 8, 4).copy_((tokens_BS.narrow(1, 8, 4) + 1).remainder(kVocabulary));
    EXPECT_TRUE(near(sample.logits(input_of(others_BS)).narrow(1, 0, 8),
                     sample.logits(input_of(tokens_BS)).narrow(1, 0, 8), 1e-4))
        << method;
  }
}

}  // namespace
}  // namespace switchyard
