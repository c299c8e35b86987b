#include <gtest/gtest.h>

#include "config/check.h"
#include "config_folder.h"

namespace switchyard {
namespace {

struct Wrong {
  std::string yaml;
  std::string message;
};

TEST(CheckValues, DefaultsAreGood) {
  const RunConfig defaults;
  EXPECT_TRUE(check_values(defaults).empty());
}

TEST(CheckValues, NamesRangeAndValue) {
  const std::vector<Wrong> cases = {
      {"run: {seed: -1}", "run.yaml:1: `run.seed` must be at least 0, got -1"},
      {"model:\n  hidden_size: 0\n", "run.yaml:2: `model.hidden_size` must be at least 1, got 0"},
      {"model: {head_dim: -4}", "run.yaml:1: `model.head_dim` must be at least 1, got -4"},
      {"model: {dropout: 1}", "run.yaml:1: `model.dropout` must be at least 0 and below 1, got 1"},
      {"model: {init_std: 0}", "run.yaml:1: `model.init_std` must be above 0, got 0"},
      {"model: {num_hidden_layers: 1000000}",
       "run.yaml:1: `model.num_hidden_layers` must be at least 1 and at most 100000, got 1000000"},
      {"moe: {capacity: {factor: 0}}", "run.yaml:1: `moe.capacity.factor` must be above 0, got 0"},
      {"moe: {capacity: {eval_factor: -1.5}}",
       "run.yaml:1: `moe.capacity.eval_factor` must be above 0, got -1.5"},
      {"moe: {expert_dropout: 1.5}",
       "run.yaml:1: `moe.expert_dropout` must be at least 0 and below 1, got 1.5"},
      {"moe: {balance: {coef: -0.1}}",
       "run.yaml:1: `moe.balance.coef` must be at least 0, got -0.1"},
      {"moe: {balance: [{coef: 1}, {coef: -1}]}",
       "run.yaml:1: `moe.balance[1].coef` must be at least 0, got -1"},
      {"moe: {router: {second_threshold: 2}}",
       "run.yaml:1: `moe.router.second_threshold` must be at least 0 and at most 1, got 2"},
      {"parallel: {overlap_chunks: 0}",
       "run.yaml:1: `parallel.overlap_chunks` must be at least 1, got 0"},
      {"optim: {betas: [0.9, 1.0]}",
       "run.yaml:1: `optim.betas[1]` must be at least 0 and below 1, got 1"},
      {"optim: {betas: [0.9]}", "run.yaml:1: `optim.betas` must be a list of 2, got 1"},
      {"optim: {eps: 0}", "run.yaml:1: `optim.eps` must be above 0, got 0"},
      {"optim: {lr_scale: {\"*.gate.*\": -1}}",
       "run.yaml:1: `optim.lr_scale.*.gate.*` must be at least 0, got -1"},
      {"train: {steps: -5}", "run.yaml:1: `train.steps` must be at least 0, got -5"},
      {"train: {micro_batch_size: 0}",
       "run.yaml:1: `train.micro_batch_size` must be at least 1, got 0"},
      {"train: {micro_batch_size: 3000000000}",
       "run.yaml:1: `train.micro_batch_size` must be below 2^31, got 3000000000"},
      {"checkpoint: {keep: 0}", "run.yaml:1: `checkpoint.keep` must be at least 1, got 0"},
      {"data: {path: [{path: a, weight: 0}]}",
       "run.yaml:1: `data.path.weight` must be above 0, got 0"},
  };
  for (const Wrong& wrong : cases) EXPECT_EQ(complaint(wrong.yaml), wrong.message) << wrong.yaml;
}

TEST(CheckValues, NamesTheNearestWord) {
  const std::vector<Wrong> cases = {
      {"model: {ffn: swiglo}",
       "run.yaml:1: `model.ffn` must be one of swiglu, geglu, gelu, relu, got `swiglo`; did you "
       "mean `swiglu`?"},
      {"model: {qk_norm: true}",
       "run.yaml:1: `model.qk_norm` must be one of none, head, full, got `true`"},
      {"moe: {router: {type: expert_chioce}}",
       "run.yaml:1: `moe.router.type` must be one of topk, switch, gshard, group_limited, "
       "noisy_topk, expert_choice, base, sinkhorn, reinforce, hash, dselect_k, sparse_ot, "
       "attention, recurrent, sparsemixer, dense_training, domain, sequence, got `expert_chioce`; "
       "did you mean `expert_choice`?"},
      {"moe: {balance: {scope: globl}}",
       "run.yaml:1: `moe.balance.scope` must be one of group, global, global_lagged, "
       "micro_batch, got `globl`; did you mean `global`?"},
      {"optim: {type: adam}",
       "run.yaml:1: `optim.type` must be adamw, got `adam`; did you mean `adamw`?"},
      {"optim: {schedule: {type: cosin}}",
       "run.yaml:1: `optim.schedule.type` must be one of constant, linear, cosine, wsd, "
       "inverse_sqrt, got `cosin`; did you mean `cosine`?"},
      {"train: {precision: fp16}",
       "run.yaml:1: `train.precision` must be one of auto, fp32, bf16, got `fp16`"},
      {"parallel: {order: data_iner}",
       "run.yaml:1: `parallel.order` must be one of expert_inner, data_inner, got `data_iner`; "
       "did you mean `data_inner`?"},
  };
  for (const Wrong& wrong : cases) EXPECT_EQ(complaint(wrong.yaml), wrong.message) << wrong.yaml;
}

TEST(CheckValues, RefusesWhatIsNotBuilt) {
  EXPECT_EQ(complaint("zero: {stage: 3}"), "run.yaml:1: `zero.stage` 3 is not built yet; use 2");
  EXPECT_EQ(complaint("zero: {stage: 4}"),
            "run.yaml:1: `zero.stage` must be at least 0 and at most 2, got 4");
  EXPECT_EQ(complaint("train: {recompute: full}"),
            "run.yaml:1: `train.recompute` full is called layer here; use that");
  EXPECT_EQ(complaint("train: {recompute: selective}"),
            "run.yaml:1: `train.recompute` selective is called experts here; use that");
  EXPECT_EQ(complaint("train: {recompute: expert}"),
            "run.yaml:1: `train.recompute` must be one of none, experts, layer, got `expert`; did "
            "you mean `experts`?");
  EXPECT_EQ(complaint("train: {device: gpu}"),
            "run.yaml:1: `train.device` must be one of cpu, cuda, got `gpu`; did you mean `cpu`?");
  EXPECT_EQ(complaint("parallel: {gpu_transport: ucx}"),
            "run.yaml:1: `parallel.gpu_transport` must be one of nccl, mpi, got `ucx`");
}

TEST(CheckValues, NumbersThatAProgramPutInMustBeFinite) {
  RunConfig config;
  config.optim.lr = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(validate(config, 0),
            std::vector<std::string>{"`optim.lr` must be a finite number, got nan"});
  config.optim.lr = std::numeric_limits<double>::infinity();
  EXPECT_EQ(validate(config, 0),
            std::vector<std::string>{"`optim.lr` must be a finite number, got inf"});
}

}  // namespace
}  // namespace switchyard
