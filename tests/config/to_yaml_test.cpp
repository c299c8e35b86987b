#include <gtest/gtest.h>

#include "config/keys.h"
#include "config/load_config.h"

namespace switchyard {
namespace {

/// Every key differs from its default, and the whole is valid.
RunConfig other_config() {
  RunConfig config;
  config.run = {"name with: blanks #1", "some/dir", 9223372036854775807};
  config.data.path = {{"data/\"prose\"", 0.1, "prose"}, {"data/code", 1.0 / 3, ""}};
  config.data.sequence_length = 17;
  config.data.mask_documents = true;
  ModelConfig& model = config.model;
  model.vocab_size = 320;
  model.hidden_size = 96;
  model.num_hidden_layers = 6;
  model.num_attention_heads = 6;
  model.num_key_value_heads = 3;
  model.head_dim = 20;
  model.intermediate_size = 100;
  model.ffn = "gelu";
  model.dropout = 0.1;
  model.init_std = 0.006;
  model.rope_theta = 1e6;
  model.partial_rotary_factor = 0.5;
  model.rope_scaling = {"llama3", 8.0, 1.5, 5.0, 4096};
  model.sliding_window = 64;
  model.rms_norm_eps = 1e-6;
  model.qk_norm = "head";
  model.attention_bias = true;
  model.attention_output_bias = true;
  model.tie_word_embeddings = true;
  config.moe.layers = "1,3,5";
  config.moe.num_experts = 16;
  config.moe.top_k = 4;
  config.moe.expert_intermediate_size = 48;
  config.moe.allow_noncausal = true;
  config.moe.expert_dropout = 0.4;
  config.moe.group_sequences = 2;
  config.moe.router = {.type = "topk",
                       .score = "sigmoid",
                       .normalize = false,
                       .scaling_factor = 2.5,
                       .jitter_eps = 0.01,
                       .selection_bias = true,
                       .bias_update_rate = 0.002,
                       .n_group = 4,
                       .topk_group = 2,
                       .group_score = "max",
                       .second_expert_policy = "all",
                       .second_threshold = 0.3,
                       .normalize_gate = "after_drop"};
  config.moe.capacity = {.factor = 1.25,
                         .eval_factor = 2.0,
                         .scope = "rank",
                         .priority = "choice",
                         .round = "floor",
                         .counts_k = false,
                         .min = 0,
                         .multiple_of = 8};
  config.moe.balance = {{"hf", 0.001, "global", "sum"}, {"topk", 1e-4, "micro_batch", "mean"}};
  config.moe.z_loss = {1e-4, "sum"};
  config.moe.shared_experts = {2, 64, true};
  config.parallel = {4, "data_inner"};
  config.zero.stage = 0;
  config.optim.lr = 3e-4;
  config.optim.betas = {0.8, 0.99};
  config.optim.eps = 1e-15;
  config.optim.weight_decay = 0.01;
  config.optim.grad_clip = 0.5;
  config.optim.lr_scale = {{"*.mlp.gate.*", 0.1}, {"model.norm.weight", 2.0}};
  config.optim.schedule = {"wsd", 7, 0.2, 0.3};
  config.train = {.steps = 11,
                  .device = "cpu",
                  .threads = 3,
                  .global_batch_size = 32,
                  .micro_batch_size = 8,
                  .precision = "bf16",
                  .recompute = "layer",
                  .eval_interval = 5,
                  .eval_batches = 2,
                  .log_interval = 1,
                  .freeze = {"model.embed_tokens.*", "lm_head.weight"},
                  .max_skipped_steps = 1,
                  .check_replicas_interval = 20,
                  .spike = {"skip", 64, 4.5, 7}};
  config.checkpoint = {50, 9, false, false, "continue", "runs/other"};
  config.watchdog.timeout_seconds = 30;
  config.watchdog.save_timeout_seconds = 60;
  return config;
}

RunConfig resolved(RunConfig config) {
  resolve_autos(config.model);
  return config;
}

const RunConfig kDefaults;

TEST(ToYaml, RoundTripsDefaults) {
  const RunConfig config = resolved(kDefaults);
  EXPECT_EQ(parse_config(to_yaml(config), "f"), config);
}

TEST(ToYaml, RoundTripsEveryKey) {
  const RunConfig config = other_config();
  EXPECT_EQ(parse_config(to_yaml(config), "f"), config) << to_yaml(config);
}

TEST(ToYaml, RoundTripsShortLists) {
  RunConfig config = resolved(kDefaults);
  config.moe.balance.clear();
  config.data.path = {{"null", 2.0, "12"}};
  config.moe.layers = "3";
  EXPECT_EQ(parse_config(to_yaml(config), "f"), config) << to_yaml(config);
}

TEST(ToYaml, WritesEveryKey) {
  const std::string yaml = to_yaml(other_config());
  for (const Key& key : all_keys()) {
    EXPECT_NE(yaml.find(key.name + ":"), std::string::npos) << key.path();
  }
}

TEST(ToYaml, ReadsWell) {
  const std::string yaml = to_yaml(other_config());
  for (const char* text :
       {"data:\n  path:\n    - path: \"data/\\\"prose\\\"\"\n      weight: 0.1\n",
        "  layers: [1,3,5]\n", "  betas: [0.8, 0.99]\n", "  eps: 1.0e-15\n",
        "  lr_scale: {\"*.mlp.gate.*\": 0.1, model.norm.weight: 2}\n",
        "  load_from: runs/other\n"}) {
    EXPECT_NE(yaml.find(text), std::string::npos) << text << "\n" << yaml;
  }
}

}  // namespace
}  // namespace switchyard
