#include <gtest/gtest.h>

#include <cmath>

#include "config/causality.h"
#include "sample_decoder.h"
#include "support/sample_routers.h"

// S6: what one request gets must not depend on the requests that share its batch
// ("Stealing User Prompts from Mixture of Experts", arXiv:2410.22884). B sequences of
// S tokens, V vocabulary.
//
// Decisions must be the same, bit for bit. Logits may differ by rounding, since a matrix
// product of other row counts may run through another kernel; a leak is orders above.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t kLength = 9;

Tensor victim() { return sample_tokens(1, kLength, "the victim's tokens"); }
Tensor others(int64_t count, const char* name) { return sample_tokens(count, kLength, name); }

DecoderInput batch_of(const Tensor& tokens_BS) {
  DecoderInput input = input_of(tokens_BS);
  input.domains_B = at::zeros({tokens_BS.size(0)}, at::kLong);
  return input;
}

/// What one sequence of a batch got.
struct Served {
  Tensor logits_SV;
  std::vector<Tensor> decisions;  // per MoE layer (S, E) int64: which experts served a token

  Served first(int64_t positions) const {
    Served part{logits_SV.narrow(0, 0, positions), {}};
    for (const Tensor& all : decisions) part.decisions.push_back(all.narrow(0, 0, positions));
    return part;
  }
};

Served serve(const SampleDecoder& model, const DecoderInput& input, int64_t index) {
  const int64_t S = input.tokens_BS.size(1);
  const DecoderOutput output = model.decoder.forward(input);
  const auto own = [&](const Tensor& all) { return all.detach().narrow(0, index * S, S); };
  Served served{own(model.decoder.logits(output.hidden_TD)), {}};
  for (const RouterRecord& record : output.routers) {
    const Tensor served_TE = at::zeros(record.probs_TE.sizes(), at::kLong)
                                 .scatter_add_(1, record.experts_TK, record.kept_TK.to(at::kLong));
    served.decisions.push_back(own(served_TE));
  }
  return served;
}

bool alike(const Served& a, const Served& b) {
  for (size_t l = 0; l < a.decisions.size(); ++l) {
    if (!at::equal(a.decisions[l], b.decisions[l])) return false;
  }
  return (a.logits_SV - b.logits_SV).abs().max().item<float>() <
         1e-5 * a.logits_SV.abs().max().item<float>();
}

/// Whether the victim is served the same alone and in every company.
bool is_independent(const SampleDecoder& model, int64_t group_sequences = 1) {
  const Served alone = serve(model, batch_of(victim()), 0);
  for (const char* name : {"some", "more", "any"}) {
    for (const int64_t before : {0, 1, 3}) {
      DecoderInput input =
          batch_of(at::cat({others(before, name), victim(), others(3 - before, name)}));
      if (group_sequences > 1) input.group_sequences = 4;
      if (!alike(serve(model, input, before), alone)) return false;
    }
  }
  return true;
}

/// The victim among longer requests: behind its end there is padding.
bool is_independent_of_padding(const SampleDecoder& model) {
  const Served alone = serve(model, batch_of(victim()), 0);
  for (const int64_t padding : {1, 5, 20}) {
    DecoderInput input =
        batch_of(at::cat({at::cat({victim(), at::full({1, padding}, 7, at::kLong)}, 1),
                          sample_tokens(1, kLength + padding, "a longer request")}));
    input.valid_BS = at::ones({2, kLength + padding}, at::kBool);
    input.valid_BS[0].narrow(0, kLength, padding).fill_(false);
    if (!alike(serve(model, input, 0).first(kLength), alone)) return false;
  }
  return true;
}

/// Whether what a token gets stays as it is when a later token changes.
bool is_causal(const SampleDecoder& model) {
  const Tensor tokens_BS = victim();
  const Served before = serve(model, batch_of(tokens_BS), 0);
  for (int64_t changed = 1; changed < kLength; ++changed) {
    Tensor other_BS = tokens_BS.clone();
    other_BS[0][changed] = (tokens_BS[0][changed] + 1).remainder(kVocabulary);
    const Served after = serve(model, batch_of(other_BS), 0);
    if (!alike(after.first(changed), before.first(changed))) return false;
  }
  return true;
}

TEST(BatchIndependenceTest, S6_EveryServableRouter) {
  const Mesh mesh = solo_mesh();
  for (const MoeConfig& moe : sample_routers(small_moe())) {
    SCOPED_TRACE(moe.router.type);
    const SampleDecoder model(small_model(), moe, mesh);
    const bool servable = cross_token_evaluation(moe).empty();
    EXPECT_EQ(is_causal(model), servable);
    if (!servable) continue;
    EXPECT_TRUE(is_independent(model));
    EXPECT_TRUE(is_independent_of_padding(model));
  }
}

TEST(BatchIndependenceTest, S6_ACapacityOfOnesOwnSequenceIsServable) {
  const Mesh mesh = solo_mesh();
  MoeConfig moe = small_moe();
  moe.capacity.eval_factor = 0.6;
  moe.capacity.min = 1;
  const SampleDecoder model(small_model(), moe, mesh);
  EXPECT_GT(model.decoder.forward(batch_of(victim())).routers[0].dropped_pairs.item<int64_t>(), 0);
  EXPECT_TRUE(is_independent(model));
}

TEST(BatchIndependenceTest, S6_TheTestBites) {
  const Mesh mesh = solo_mesh();
  MoeConfig capacity = small_moe();
  capacity.capacity.eval_factor = 0.6;
  capacity.capacity.min = 1;
  EXPECT_FALSE(is_independent(SampleDecoder(small_model(), capacity, mesh), /*group_sequences=*/4));
  MoeConfig choice = small_moe();
  choice.router.type = "expert_choice";
  EXPECT_FALSE(is_independent(SampleDecoder(small_model(), choice, mesh), /*group_sequences=*/4));
  EXPECT_FALSE(is_causal(SampleDecoder(small_model(), choice, mesh)));
}

// The attack lives on ties: router weights of five digits make many.
TEST(BatchIndependenceTest, S6_TiesGoTheSameWayInEveryBatch) {
  const Mesh mesh = solo_mesh();
  MoeConfig moe = small_moe();
  moe.capacity.eval_factor = 0.6;
  moe.capacity.min = 1;
  SampleDecoder model(small_model(), moe, mesh);
  for (const auto& [name, placed] : model.parts()) {
    if (!name.ends_with("mlp.gate.weight")) continue;
    Tensor gate_ED = model.store.weight_of(placed);
    gate_ED.detach().mul_(2).round_().div_(2);
    gate_ED.detach()[1].copy_(gate_ED.detach()[0]);
    gate_ED.detach()[5].copy_(gate_ED.detach()[4]);
  }
  EXPECT_TRUE(is_independent(model));
}

}  // namespace
}  // namespace switchyard
