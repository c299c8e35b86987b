#include "model/model_size.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "model/sample_decoder.h"

namespace switchyard {
namespace {

struct NamedConfig {
  const char* name;
  ModelConfig model = small_model();
  MoeConfig moe = small_moe();
};

std::vector<NamedConfig> configs() {
  std::vector<NamedConfig> configs;
  const auto add = [&](const char* name) -> NamedConfig& {
    return configs.emplace_back(NamedConfig{name});
  };
  add("all layers MoE");
  add("dense").moe.layers = "none";
  NamedConfig& mixed = add("mixed layers");
  mixed.model.num_hidden_layers = 5;
  mixed.moe.layers = "every:2";
  add("last layer MoE").moe.layers = "last:1";
  add("tied").model.tie_word_embeddings = true;
  add("one key-value head").model.num_key_value_heads = 1;
  add("as many key-value heads").model.num_key_value_heads = kAuto;
  add("norm of each head").model.qk_norm = "head";
  add("norm of all heads").model.qk_norm = "full";
  add("bias").model.attention_bias = true;
  add("no gate").model.ffn = "gelu";
  add("gshard").moe.router.type = "gshard";
  add("dselect_k").moe.router.type = "dselect_k";
  add("attention router").moe.router.type = "attention";
  add("recurrent router").moe.router.type = "recurrent";
  add("noisy top-k").moe.router.type = "noisy_topk";
  NamedConfig& tree = add("hierarchical noisy top-k");
  tree.moe.router.type = "noisy_topk";
  tree.moe.router.noisy_topk.groups = 2;
  tree.moe.router.noisy_topk.groups_per_token = 2;
  add("shared experts").moe.shared_experts = {2, 5, false};
  NamedConfig& everything = add("everything");
  everything.model.num_hidden_layers = 4;
  everything.model.qk_norm = "full";
  everything.model.attention_bias = true;
  everything.model.head_dim = 6;
  everything.moe.layers = "1,3";
  everything.moe.shared_experts = {3, 5, true};
  everything.moe.router.selection_bias = true;
  return configs;
}

TEST(ModelSizeTest, CountsTheElementsOfTheModel) {
  for (NamedConfig& config : configs()) {
    const Mesh mesh = solo_mesh();
    const SampleDecoder sample(config.model, config.moe, mesh);
    resolve_autos(config.model);
    const ModelSize size = model_size(config.model, config.moe, /*sequence_length=*/16);
    EXPECT_EQ(size.dense_parameters, sample.store.local_elements(ParameterKind::kDense))
        << config.name;
    EXPECT_EQ(size.expert_parameters, sample.store.local_elements(ParameterKind::kExpert))
        << config.name;
    EXPECT_EQ(size.total_parameters(), size.dense_parameters + size.expert_parameters);
  }
}

TEST(ModelSizeTest, WithAllExpertsActiveEveryParameterIs) {
  for (NamedConfig& config : configs()) {
    resolve_autos(config.model);
    config.moe.top_k = 2;
    const ModelSize some = model_size(config.model, config.moe, 16);
    config.moe.top_k = config.moe.num_experts;
    const ModelSize all = model_size(config.model, config.moe, 16);
    EXPECT_EQ(all.active_parameters, all.total_parameters()) << config.name;
    EXPECT_EQ(some.active_parameters, some.dense_parameters + some.expert_parameters / 4)
        << config.name;
  }
}

// Two layers of width 8, 4 query and 2 key-value heads of width 4, 8 experts of
// width 6 with 2 active, vocabulary 19:
//   attention        8 * (16 + 8 + 8 + 16) = 384 per layer
//   router and two experts   8 * 8 + 2 * 3 * 8 * 6 = 352 per layer
//   head             8 * 19 = 152
TEST(ModelSizeTest, FlopsOfASmallModelByHand) {
  const ModelSize size = model_size(small_model(), small_moe(), /*sequence_length=*/16);
  const double weights = 2 * (384 + 352) + 152;
  const double attention = 2 * 16 * 4 * 4;  // layers * sequence * heads * width
  EXPECT_EQ(size.flops_per_token, 6 * weights + 6 * attention);
}

// DeepSeekMoE's fine segmentation (arXiv:2401.06066 section 3.1): experts m times as many
// and m times as narrow, K m times as many. The experts stay as large and as costly, and
// the router has a row for each.
TEST(ModelSizeTest, L7_SegmentationKeepsParametersAndFlopsOfTheExperts) {
  const ModelConfig model = small_model();
  const ModelSize whole = model_size(model, small_moe(), 16);
  for (const int64_t m : {2, 3, 6}) {
    MoeConfig moe = small_moe();
    moe.num_experts *= m;
    moe.top_k *= m;
    moe.expert_intermediate_size /= m;
    const ModelSize fine = model_size(model, moe, 16);
    const int64_t rows = 2 * 8 * 8 * (m - 1);  // layers * experts * width
    EXPECT_EQ(fine.expert_parameters, whole.expert_parameters);
    EXPECT_EQ(fine.dense_parameters, whole.dense_parameters + rows);
    EXPECT_EQ(fine.active_parameters, whole.active_parameters + rows);
    EXPECT_EQ(fine.flops_per_token, whole.flops_per_token + 6.0 * static_cast<double>(rows));
  }
}

// Mixtral 8x7B has 46.7 billion parameters, 12.9 billion of them active.
TEST(ModelSizeTest, C8_Mixtral8x7B) {
  ModelConfig model;
  model.vocab_size = 32000;
  model.hidden_size = 4096;
  model.num_hidden_layers = 32;
  model.num_attention_heads = 32;
  model.num_key_value_heads = 8;
  model.head_dim = 128;
  MoeConfig moe;
  moe.num_experts = 8;
  moe.top_k = 2;
  moe.expert_intermediate_size = 14336;
  const ModelSize size = model_size(model, moe, 32768);
  EXPECT_EQ(size.total_parameters(), 46702792704);
  EXPECT_NEAR(static_cast<double>(size.active_parameters), 12.9e9, 0.05e9);
}

}  // namespace
}  // namespace switchyard
