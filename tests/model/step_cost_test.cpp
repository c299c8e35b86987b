#include "model/step_cost.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "config/load_config.h"
#include "model/activation_plan.h"
#include "model/model_size.h"
#include "model/step_volumes.h"

namespace switchyard {
namespace {

/// 2 layers, the second with 8 experts of 3 x 16 x 32 weights, top-2; 4 sequences of 256 tokens
/// to a rank in two micro-batches.
RunConfig sample_config(int64_t world_size, int64_t expert_ranks) {
  RunConfig config;
  config.model.vocab_size = 64;
  config.model.hidden_size = 16;
  config.model.num_hidden_layers = 2;
  config.model.num_attention_heads = 2;
  config.model.intermediate_size = 64;
  config.moe.layers = "last:1";
  config.moe.num_experts = 8;
  config.moe.top_k = 2;
  config.moe.expert_intermediate_size = 32;
  config.data.sequence_length = 256;
  config.parallel.expert = expert_ranks;
  config.train.micro_batch_size = 2;
  config.train.global_batch_size = 4 * world_size;
  config.train.threads = 1;
  resolve_autos(config.model);
  return config;
}

constexpr double kExpert = 3 * 16 * 32;
// Attention of two layers, a dense feed-forward, a router, the head.
constexpr double kDense = 2 * 4 * 16 * 16 + 3 * 16 * 64 + 8 * 16 + 64 * 16;

/// Every unit another number of seconds.
CostModel sample_costs() {
  CostModel costs;
  costs.path = "costs.yaml";
  costs.cores = 4;
  costs.ranks_per_host = 4;
  costs.fp32 = {2, 3, 5, 7, 11, 1};
  costs.bf16 = {1, 1, 1, 1, 1, 1};
  costs.optimizer_byte = 13;
  costs.host = {17, 19, 23};
  costs.network = LinkCosts{29, 31, 31};
  return costs;
}

TEST(StepCostTest, WorkOfOneRankByHand) {
  const RunConfig config = sample_config(1, 1);
  const StepWork work = step_work(config, at::kFloat, 1);
  // Two micro-batches, two layers, two heads, two sequences: each block of 64 queries meets
  // its own keys and those before: 1 + 2 + 3 + 4 blocks.
  EXPECT_EQ(work.scores, 2 * 2 * 2 * 2 * 10 * 64 * 64);
  EXPECT_EQ(work.dense_flops, 6 * 1024 * kDense + 14 * 8 * work.scores);
  // 512 tokens, two choices each, over 8 experts: 128 rows, and what fills them up.
  EXPECT_EQ(work.expert_flops, 2 * 8 * kExpert * 2 * (2 * 135.5 + 143.5));
  // 512 and 128 rows: one packing there and back, one sum of gradients.
  EXPECT_EQ(work.weight_bytes, 2 * (kDense * (8 + 8) + 8 * kExpert * (8 + 8)));
  // 64 logits for each token.
  const int64_t kept = planned_activations(config, at::kFloat, 1, RoutingCase::kBalanced).kept;
  EXPECT_EQ(work.activation_bytes, 2 * (4 * kept + 512 * 64 * (8 + 3 * 4)));
  const int64_t parameters =
      model_size(config.model, config.moe, config.data.sequence_length).total_parameters();
  EXPECT_EQ(work.optimizer_bytes, 36.0 * parameters);
  EXPECT_EQ(step_work(config, at::kBFloat16, 1).optimizer_bytes, 38.0 * parameters);
  EXPECT_EQ(work.layers, 4);
  EXPECT_EQ(work.exchange_messages, 0);
  EXPECT_EQ(work.exchange_bytes, 0);
  EXPECT_EQ(work.reduction_messages, 0);
  EXPECT_EQ(work.reduction_bytes, 0);
}

TEST(StepCostTest, FewRowsForAnExpertCostMoreEach) {
  RunConfig config = sample_config(1, 1);
  double last = 0;
  for (const int64_t experts : {8, 64, 512, 4096}) {
    config.moe.num_experts = experts;
    const StepWork work = step_work(config, at::kFloat, 1);
    EXPECT_GT(work.expert_flops, last) << experts;
    last = work.expert_flops;
  }
  // A quarter of a row at each: a quarter of them work, on 16 rows or nearly.
  EXPECT_DOUBLE_EQ(last, 2 * 4096 * kExpert * 2 * 0.25 * (2 * 8.5 + 16.5));
}

TEST(StepCostTest, ManyRowsArePackedAndSummedInPieces) {
  RunConfig config = sample_config(1, 1);
  config.data.sequence_length = 2048;
  // 4,096 tokens: 4 packings and 8 sums. 1,024 rows at each expert: 2 waves and 2 sums.
  EXPECT_EQ(step_work(config, at::kFloat, 1).weight_bytes,
            2 * (kDense * (4 * 8 + 8 * 8) + 8 * kExpert * (2 * 8 + 2 * 8)));
}

TEST(StepCostTest, RecomputeIsTakenAsNone) {
  RunConfig config = sample_config(4, 2);
  const StepWork none = step_work(config, at::kFloat, 4);
  config.train.recompute = "layer";
  const StepWork layer = step_work(config, at::kFloat, 4);
  EXPECT_EQ(layer.activation_bytes, none.activation_bytes);
  EXPECT_EQ(layer.exchange_messages, none.exchange_messages);
}

TEST(StepCostTest, CommunicationByHand) {
  RunConfig config = sample_config(4, 2);
  const StepWork work = step_work(config, at::kFloat, 4);
  // In each micro-batch counts once and rows four times, to each of the other rank's four experts.
  EXPECT_EQ(work.exchange_messages, 2 * (1 + 4 * 4));
  // Half of 1,024 rows in each, four times, two micro-batches, 16 floats.
  EXPECT_EQ(work.exchange_bytes, 512 * 4 * 2 * 64);
  // Reduce-scatter and gather over 4 and 2 ranks, and three all-reduces of 2 log2 4 messages.
  EXPECT_EQ(work.reduction_messages, 2 * 3 + 2 * 1 + 12);
  config.zero.stage = 0;
  EXPECT_EQ(step_work(config, at::kFloat, 4).reduction_messages, 2 * 3 + 2 * 1 + 12);
  config.zero.stage = 2;  // 5 and 2 leaves of each layer in two micro-batches, and the gathers
  EXPECT_EQ(step_work(config, at::kFloat, 4).reduction_messages, 21 * 3 + 5 * 1 + 12);
}

TEST(StepCostTest, CostsAreWorkTimesUnits) {
  RunConfig config = sample_config(4, 2);
  const StepWork work = step_work(config, at::kFloat, 4);
  StepCost cost = step_cost(work, config, at::kFloat, 4, sample_costs(), 1.5);
  EXPECT_DOUBLE_EQ(cost.products, 2 * (work.dense_flops + work.expert_flops));
  EXPECT_DOUBLE_EQ(cost.scores, 3 * work.scores);
  EXPECT_DOUBLE_EQ(cost.activations, 5 * work.activation_bytes);
  EXPECT_DOUBLE_EQ(cost.weights, 7 * work.weight_bytes);
  EXPECT_DOUBLE_EQ(cost.layers, 11 * work.layers);
  EXPECT_DOUBLE_EQ(cost.optimizer, 13 * work.optimizer_bytes);
  EXPECT_DOUBLE_EQ(cost.exchange, 17 * work.exchange_messages + 19 * work.exchange_bytes);
  EXPECT_DOUBLE_EQ(cost.reduction, 17 * work.reduction_messages + 23 * work.reduction_bytes);
  EXPECT_DOUBLE_EQ(cost.wait, 0.5 * 2 * work.expert_flops);
  EXPECT_DOUBLE_EQ(cost.total(), cost.products + cost.scores + cost.activations + cost.weights +
                                     cost.layers + cost.optimizer + cost.exchange + cost.reduction +
                                     cost.wait);
  config.train.threads = kAuto;  // as many as cores, but shared by four ranks
  EXPECT_EQ(planned_threads(config, sample_costs(), 4), 1);
  EXPECT_EQ(planned_threads(config, sample_costs(), 2), 2);
  EXPECT_EQ(planned_threads(config, sample_costs(), 1024), 1);
  config.train.threads = 4;
  const StepCost faster = step_cost(work, config, at::kFloat, 4, sample_costs(), 1);
  EXPECT_DOUBLE_EQ(faster.products, cost.products / 4);
  EXPECT_DOUBLE_EQ(faster.optimizer, cost.optimizer / 4);
  EXPECT_DOUBLE_EQ(faster.exchange, cost.exchange);
  EXPECT_EQ(faster.wait, 0);
}

TEST(StepCostTest, AWorldOfManyHosts) {
  RunConfig config = sample_config(1024, 8);
  const StepWork work = step_work(config, at::kFloat, 1024);
  // What a rank sends is what any rank of an expert group of 8 does: 7/8 of its rows.
  EXPECT_EQ(work.exchange_bytes, 1024 * 7 / 8 * 4 * 2 * 64);
  EXPECT_EQ(work.exchange_bytes,
            planned_volumes(config, at::kFloat, 1024, RoutingCase::kBalanced).exchange());
  StepCost cost = step_cost(work, config, at::kFloat, 1024, sample_costs(), 1);
  // Three of the seven others are on the rank's own host, if neighbours exchange.
  EXPECT_DOUBLE_EQ(cost.exchange, work.exchange_messages * (3 * 17 + 4 * 29) / 7 +
                                      work.exchange_bytes * (3 * 19 + 4 * 31) / 7);
  EXPECT_DOUBLE_EQ(cost.reduction, 29 * work.reduction_messages + 31 * work.reduction_bytes);
  config.parallel.order = "data_inner";
  cost = step_cost(work, config, at::kFloat, 1024, sample_costs(), 1);
  EXPECT_DOUBLE_EQ(cost.exchange, 29 * work.exchange_messages + 31 * work.exchange_bytes);
}

TEST(StepCostTest, MoreRanksOfOneBatchComputeLessAndSendMore) {
  double computed = 1e300, sent = -1;
  for (const int64_t ranks : {1, 2, 4, 8, 16}) {
    RunConfig config = sample_config(ranks, std::min<int64_t>(ranks, 8));
    config.train.global_batch_size = 64;
    const StepWork work = step_work(config, at::kFloat, ranks);
    const StepCost cost = step_cost(work, config, at::kFloat, ranks, sample_costs(), 1);
    const double all = cost.exchange + cost.reduction;
    EXPECT_LT(cost.total() - all, computed) << ranks;
    EXPECT_GT(all * static_cast<double>(ranks), sent) << ranks;
    computed = cost.total() - all;
    sent = all * static_cast<double>(ranks);
  }
}

TEST(StepCostTest, ManyHostsNeedANetwork) {
  CostModel costs = sample_costs();
  costs.network.reset();
  const RunConfig config = sample_config(8, 2);
  const StepWork work = step_work(config, at::kFloat, 8);
  try {
    step_cost(work, config, at::kFloat, 8, costs, 1);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what())
                  .find("costs.yaml: `network` is missing: 8 ranks are more "
                        "than the 4 of one host"),
              std::string::npos)
        << error.what();
  }
}

TEST(StepCostTest, NoExpertsNoExchange) {
  RunConfig config = sample_config(2, 1);
  config.moe.layers = "none";
  const StepWork work = step_work(config, at::kFloat, 2);
  EXPECT_EQ(work.expert_flops, 0);
  EXPECT_EQ(work.exchange_messages, 0);
  const StepCost cost = step_cost(work, config, at::kFloat, 2, sample_costs(), 4);
  EXPECT_EQ(cost.exchange, 0);
  EXPECT_EQ(cost.wait, 0);
}

}  // namespace
}  // namespace switchyard
