#include "model/decoder.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "model/sample_decoder.h"
#include "support/tensors.h"

// B sequences of S tokens, V vocabulary.

namespace switchyard {
namespace {

using at::Tensor;
using Shapes = std::map<std::string, std::vector<int64_t>>;

Shapes shapes_of(const SampleDecoder& sample) {
  Shapes shapes;
  for (const auto& [name, placed] : sample.parts()) shapes[name] = placed.part.shape;
  EXPECT_EQ(shapes.size(), sample.store.parts().size()) << "a name twice";
  return shapes;
}

TEST(DecoderTest, NamesAndShapesOfAQwen3Moe) {
  ModelConfig model = small_model();
  model.qk_norm = "head";
  MoeConfig moe = small_moe();
  moe.layers = "last:1";
  moe.num_experts = 2;
  const Mesh mesh = solo_mesh();
  const Shapes expected = {
      {"model.embed_tokens.weight", {19, 8}},
      {"model.layers.0.input_layernorm.weight", {8}},
      {"model.layers.0.self_attn.q_proj.weight", {16, 8}},
      {"model.layers.0.self_attn.k_proj.weight", {8, 8}},
      {"model.layers.0.self_attn.v_proj.weight", {8, 8}},
      {"model.layers.0.self_attn.o_proj.weight", {8, 16}},
      {"model.layers.0.self_attn.q_norm.weight", {4}},
      {"model.layers.0.self_attn.k_norm.weight", {4}},
      {"model.layers.0.post_attention_layernorm.weight", {8}},
      {"model.layers.0.mlp.gate_proj.weight", {12, 8}},
      {"model.layers.0.mlp.up_proj.weight", {12, 8}},
      {"model.layers.0.mlp.down_proj.weight", {8, 12}},
      {"model.layers.1.input_layernorm.weight", {8}},
      {"model.layers.1.self_attn.q_proj.weight", {16, 8}},
      {"model.layers.1.self_attn.k_proj.weight", {8, 8}},
      {"model.layers.1.self_attn.v_proj.weight", {8, 8}},
      {"model.layers.1.self_attn.o_proj.weight", {8, 16}},
      {"model.layers.1.self_attn.q_norm.weight", {4}},
      {"model.layers.1.self_attn.k_norm.weight", {4}},
      {"model.layers.1.post_attention_layernorm.weight", {8}},
      {"model.layers.1.mlp.gate.weight", {2, 8}},
      {"model.layers.1.mlp.experts.0.gate_proj.weight", {6, 8}},
      {"model.layers.1.mlp.experts.0.up_proj.weight", {6, 8}},
      {"model.layers.1.mlp.experts.0.down_proj.weight", {8, 6}},
      {"model.layers.1.mlp.experts.1.gate_proj.weight", {6, 8}},
      {"model.layers.1.mlp.experts.1.up_proj.weight", {6, 8}},
      {"model.layers.1.mlp.experts.1.down_proj.weight", {8, 6}},
      {"model.norm.weight", {8}},
      {"lm_head.weight", {19, 8}},
  };
  EXPECT_EQ(shapes_of(SampleDecoder(model, moe, mesh)), expected);
}

TEST(DecoderTest, NamesAndShapesOfWhatElseThereIs) {
  ModelConfig model = small_model();
  model.num_hidden_layers = 1;
  model.qk_norm = "full";
  model.attention_bias = true;
  model.tie_word_embeddings = true;
  model.ffn = "relu";
  MoeConfig moe = small_moe();
  moe.num_experts = 1;
  moe.top_k = 1;
  moe.shared_experts = {2, 5, true};
  const Mesh mesh = solo_mesh();
  const Shapes expected = {
      {"model.embed_tokens.weight", {19, 8}},
      {"model.layers.0.input_layernorm.weight", {8}},
      {"model.layers.0.self_attn.q_proj.weight", {16, 8}},
      {"model.layers.0.self_attn.k_proj.weight", {8, 8}},
      {"model.layers.0.self_attn.v_proj.weight", {8, 8}},
      {"model.layers.0.self_attn.q_proj.bias", {16}},
      {"model.layers.0.self_attn.k_proj.bias", {8}},
      {"model.layers.0.self_attn.v_proj.bias", {8}},
      {"model.layers.0.self_attn.o_proj.weight", {8, 16}},
      {"model.layers.0.self_attn.q_norm.weight", {16}},
      {"model.layers.0.self_attn.k_norm.weight", {8}},
      {"model.layers.0.post_attention_layernorm.weight", {8}},
      {"model.layers.0.mlp.gate.weight", {1, 8}},
      {"model.layers.0.mlp.experts.0.up_proj.weight", {6, 8}},
      {"model.layers.0.mlp.experts.0.down_proj.weight", {8, 6}},
      {"model.layers.0.mlp.shared_expert.up_proj.weight", {10, 8}},
      {"model.layers.0.mlp.shared_expert.down_proj.weight", {8, 10}},
      {"model.layers.0.mlp.shared_expert_gate.weight", {1, 8}},
      {"model.norm.weight", {8}},
  };
  EXPECT_EQ(shapes_of(SampleDecoder(model, moe, mesh)), expected);
}

TEST(DecoderTest, StartsWithOnesZerosAndTheNamedDeviation) {
  ModelConfig model = small_model();
  model.attention_bias = true;
  model.hidden_size = 64;
  model.vocab_size = 500;
  model.init_std = 0.02;
  const Mesh mesh = solo_mesh();
  const SampleDecoder sample(model, small_moe(), mesh);
  for (const auto& [name, placed] : sample.parts()) {
    const Tensor weight = sample.store.weight_of(placed);
    if (name.ends_with("norm.weight")) {
      EXPECT_TRUE(same(weight, at::ones_like(weight))) << name;
    } else if (name.ends_with(".bias")) {
      EXPECT_TRUE(same(weight, at::zeros_like(weight))) << name;
    } else {
      const double sigmas = 5 / std::sqrt(2.0 * static_cast<double>(weight.numel()));
      EXPECT_NEAR(weight.std().item<double>(), 0.02, 0.02 * sigmas) << name;
    }
  }
}

TEST(DecoderTest, KnowsItsMoeLayersAndSelectionBiases) {
  ModelConfig model = small_model();
  model.num_hidden_layers = 4;
  MoeConfig moe = small_moe();
  moe.layers = "1,3";
  const Mesh mesh = solo_mesh();
  const SampleDecoder plain(model, moe, mesh);
  EXPECT_EQ(plain.decoder.moe_layers(), (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(plain.decoder.num_moe_layers(), 2);
  EXPECT_TRUE(plain.decoder.router_state().empty());
  EXPECT_EQ(plain.decoder.forward(input_of(sample_tokens(1, 4))).routers.size(), 2U);
  moe.router.selection_bias = true;
  const SampleDecoder biased(model, moe, mesh);
  const auto biases = biased.decoder.router_state();
  ASSERT_EQ(biases.size(), 2U);
  EXPECT_EQ(biases[0].first, "model.layers.1.mlp.gate.e_score_correction_bias");
  EXPECT_EQ(biases[1].first, "model.layers.3.mlp.gate.e_score_correction_bias");
  EXPECT_TRUE(same(biases[1].second, at::zeros({8})));
}

TEST(DecoderTest, ATiedHeadIsTheEmbedding) {
  ModelConfig model = small_model();
  model.tie_word_embeddings = true;
  const Mesh mesh = solo_mesh();
  const SampleDecoder sample(model, small_moe(), mesh);
  const PlacedPart embedding = sample.parts().at("model.embed_tokens.weight");
  const Tensor hidden_TD = normal_tensor({5, 8}, "hidden states", at::kFloat);
  EXPECT_TRUE(near(sample.decoder.logits(hidden_TD),
                   at::matmul(hidden_TD, sample.store.weight_of(embedding).t()), 1e-6));
  // The head alone gives a gradient to tokens that are not in the input.
  const DecoderInput input = input_of(at::zeros({1, 4}, at::kLong));
  sample.decoder.logits(sample.decoder.forward(input).hidden_TD).square().sum().backward();
  EXPECT_GT(sample.store.gradient_of(embedding)[7].abs().sum().item<float>(), 0);
}

/// Configs that must be causal.
std::vector<std::pair<std::string, MoeConfig>> causal_configs() {
  MoeConfig dense = small_moe();
  dense.layers = "none";
  MoeConfig position = small_moe();
  position.capacity.factor = position.capacity.eval_factor = 0.75;
  position.capacity.min = 1;
  MoeConfig jitter = small_moe();
  jitter.router.jitter_eps = 0.1;
  std::vector<std::pair<std::string, MoeConfig>> configs = {
      {"dense", dense}, {"dropless", small_moe()}, {"position", position}, {"jitter", jitter}};
  for (const char* type : {"dselect_k", "attention", "recurrent", "sparsemixer"}) {
    configs.emplace_back(type, small_moe());
    configs.back().second.router.type = type;
  }
  return configs;
}

/// How far logits of positions before `at` move when tokens from `at` on change.
double change_before(const MoeConfig& moe, Mode mode, int64_t at) {
  const Mesh mesh = solo_mesh();
  const SampleDecoder sample(small_model(), moe, mesh);
  const Tensor tokens_BS = sample_tokens(2, 12), other_BS = sample_tokens(2, 12, "other tokens");
  const Tensor changed_BS =
      at::cat({tokens_BS.narrow(1, 0, at), other_BS.narrow(1, at, 12 - at)}, 1);
  const Tensor before = sample.logits(input_of(tokens_BS, mode));
  const Tensor after = sample.logits(input_of(changed_BS, mode));
  EXPECT_GT((after - before).narrow(1, at, 12 - at).abs().max().item<double>(), 1e-2);
  return (after - before).narrow(1, 0, at).abs().max().item<double>();
}

TEST(DecoderTest, LaterTokensDoNotChangeEarlierLogits) {
  for (const auto& [name, moe] : causal_configs()) {
    for (const Mode mode : {Mode::kTrain, Mode::kEval}) {
      for (const int64_t at : {1, 6, 11}) EXPECT_LT(change_before(moe, mode, at), 1e-5) << name;
    }
  }
}

TEST(DecoderTest, APriorityThatLooksAheadChangesThem) {
  MoeConfig moe = small_moe();
  moe.capacity.factor = 0.75;
  moe.capacity.min = 1;
  moe.capacity.priority = "choice";
  EXPECT_GT(change_before(moe, Mode::kTrain, 6), 1e-3);
}

std::vector<ModelConfig> cache_models() {
  ModelConfig plain = small_model(), rich = small_model();
  rich.qk_norm = "head";
  rich.attention_bias = true;
  rich.num_key_value_heads = 1;
  return {plain, rich};
}

TEST(DecoderTest, LogitsWithACacheAreThoseOfTheFullForward) {
  for (const ModelConfig& model : cache_models()) {
    for (const int64_t prompt : {1, 5, 12}) {
      const Mesh mesh = solo_mesh();
      const SampleDecoder sample(model, small_moe(), mesh);
      const Tensor tokens_BS = sample_tokens(2, 12);
      KvCache cache;
      std::vector<Tensor> pieces = {
          sample.logits(input_of(tokens_BS.narrow(1, 0, prompt)), &cache)};
      EXPECT_EQ(cache.length, prompt);
      for (int64_t s = prompt; s < 12; ++s) {
        pieces.push_back(sample.logits(input_of(tokens_BS.narrow(1, s, 1)), &cache));
      }
      EXPECT_EQ(cache.length, 12);
      EXPECT_TRUE(near(at::cat(pieces, 1), sample.logits(input_of(tokens_BS)), 1e-5));
    }
  }
}

TEST(DecoderTest, NoSequencesGiveNoRowsWithACacheToo) {
  const Mesh mesh = solo_mesh();
  const SampleDecoder sample(small_model(), small_moe(), mesh);
  KvCache cache;
  EXPECT_EQ(sample.logits(input_of(at::empty({0, 5}, at::kLong)), &cache).numel(), 0);
  EXPECT_EQ(sample.logits(input_of(at::empty({0, 1}, at::kLong)), &cache).numel(), 0);
  EXPECT_EQ(cache.length, 6);
  const DecoderOutput output =
      sample.decoder.forward(input_of(at::empty({0, 5}, at::kLong), Mode::kTrain));
  EXPECT_EQ(output.hidden_TD.sizes(), (std::vector<int64_t>{0, 8}));
  output.hidden_TD.sum().backward();
}

TEST(DecoderTest, ADocumentDoesNotSeeTheOneBefore) {
  const Mesh mesh = solo_mesh();
  const SampleDecoder sample(small_model(), small_moe(), mesh);
  const Tensor first = sample_tokens(2, 5), other = sample_tokens(2, 5, "other tokens"),
               second = sample_tokens(2, 7, "second document");
  const auto logits = [&](const Tensor& first_BS, bool masked) {
    DecoderInput input = input_of(at::cat({first_BS, second}, 1));
    if (masked) {
      input.documents_BS = at::cat({at::zeros({2, 5}, at::kLong), at::ones({2, 7}, at::kLong)}, 1);
    }
    return sample.logits(input).narrow(1, 5, 7);
  };
  EXPECT_TRUE(near(logits(other, true), logits(first, true), 1e-5));
  EXPECT_FALSE(near(logits(other, false), logits(first, false), 1e-2));
  // Rotary positions are relative, so the second document reads as if alone.
  EXPECT_TRUE(near(logits(first, true), sample.logits(input_of(second)), 1e-4));
}

TEST(DecoderTest, TheDocumentMaskIsStillCausal) {
  const Mesh mesh = solo_mesh();
  const SampleDecoder sample(small_model(), small_moe(), mesh);
  const Tensor tokens_BS = sample_tokens(1, 8);
  DecoderInput one_document = input_of(tokens_BS);
  one_document.documents_BS = at::full({1, 8}, 4, at::kLong);
  EXPECT_TRUE(near(sample.logits(one_document), sample.logits(input_of(tokens_BS)), 1e-5));
}

TEST(DecoderTest, SequencesOfABatchDoNotInfluenceEachOther) {
  for (const auto& [name, moe] : causal_configs()) {
    const Mesh mesh = solo_mesh();
    ModelConfig model = small_model();
    model.dropout = 0.2;
    const SampleDecoder sample(model, moe, mesh);
    const Tensor tokens_BS = sample_tokens(4, 9);
    for (const Mode mode : {Mode::kTrain, Mode::kEval}) {
      const Tensor together = sample.logits(input_of(tokens_BS, mode));
      for (int64_t b = 0; b < 4; ++b) {
        DecoderInput alone = input_of(tokens_BS.narrow(0, b, 1), mode);
        alone.order_B = at::full({1}, b, at::kLong);
        EXPECT_TRUE(near(sample.logits(alone), together.narrow(0, b, 1), 1e-5)) << name;
      }
    }
  }
}

TEST(DecoderTest, SequencesOfOneRoutingGroupShareItsCapacity) {
  MoeConfig moe = small_moe();
  moe.capacity.factor = 0.75;
  moe.capacity.min = 1;
  const Mesh mesh = solo_mesh();
  const SampleDecoder sample(small_model(), moe, mesh);
  DecoderInput input = input_of(sample_tokens(4, 9), Mode::kTrain);
  EXPECT_EQ(sample.decoder.forward(input).routers[0].counts.tokens_G.numel(), 4);
  input.group_sequences = 2;
  EXPECT_EQ(sample.decoder.forward(input).routers[0].counts.tokens_G.numel(), 2);
  const Tensor together = sample.logits(input);
  input.tokens_BS = input.tokens_BS.clone();
  input.tokens_BS[0] = sample_tokens(1, 9, "other tokens")[0];
  const Tensor changed = sample.logits(input);
  EXPECT_FALSE(near(changed[1], together[1], 1e-3));
  EXPECT_TRUE(near(changed.narrow(0, 2, 2), together.narrow(0, 2, 2), 1e-5));
}

TEST(DecoderTest, DropoutIsOffInEvaluation) {
  ModelConfig model = small_model();
  const Mesh mesh = solo_mesh();
  const SampleDecoder plain(model, small_moe(), mesh);
  model.dropout = 0.2;
  const SampleDecoder sample(model, small_moe(), mesh);
  const Tensor tokens_BS = sample_tokens(2, 9);
  EXPECT_TRUE(same(sample.logits(input_of(tokens_BS)), plain.logits(input_of(tokens_BS))));
  EXPECT_FALSE(near(sample.logits(input_of(tokens_BS, Mode::kTrain)),
                    plain.logits(input_of(tokens_BS, Mode::kTrain)), 1e-2));
}

TEST(DecoderTest, PaddingChangesNothingBeforeItAndIsNotCounted) {
  MoeConfig moe = small_moe();
  const Mesh mesh = solo_mesh();
  const SampleDecoder sample(small_model(), moe, mesh);
  const Tensor tokens_BS = sample_tokens(1, 10);
  DecoderInput padded = input_of(tokens_BS);
  padded.valid_BS = (at::arange(10) < 6).unsqueeze(0);
  const Tensor alone = sample.logits(input_of(tokens_BS.narrow(1, 0, 6)));
  EXPECT_TRUE(near(sample.logits(padded).narrow(1, 0, 6), alone, 1e-5));
  for (const RouterRecord& record : sample.decoder.forward(padded).routers) {
    EXPECT_EQ(record.counts.tokens_G[0].item<double>(), 6);
    EXPECT_EQ(record.routed_pairs.item<int64_t>(), 12);
  }
}

}  // namespace
}  // namespace switchyard
