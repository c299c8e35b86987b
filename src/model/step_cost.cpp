#include "model/step_cost.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "config/load_config.h"
#include "model/activation_plan.h"
#include "model/model_size.h"
#include "model/step_volumes.h"
#include "moe/choices_per_token.h"
#include "ops/blocked_gemm.h"
#include "ops/causal_attention.h"
#include "ops/swiglu_experts.h"

namespace switchyard {
namespace {

constexpr int64_t kReducedAtOnce = 1 << 20;            // distributed/mpi_communicator.cpp
constexpr double kDenseLeaves = 5, kExpertLeaves = 2;  // of a layer

/// Rows of a group as a product computes them, filled up to a multiple.
double padded(double rows, double multiple) {
  return rows + (multiple - 1) / 2 * std::min(1.0, rows);
}

/// FLOPs of forward and both products of backward, for each weight.
double flops_per_weight(double rows) { return 2 * (2 * padded(rows, 16) + padded(rows, 32)); }

/// Bytes for each weight, which is packed for so many rows at a time.
double traffic_per_weight(double rows, int64_t packed_for, int64_t w) {
  // Shares as next_share cuts them: the last has up to half as many rows more.
  const auto times = [rows](int64_t share) {
    return std::max(1.0, std::ceil(rows / static_cast<double>(share) - 0.5));
  };
  const double packed = 2 * static_cast<double>(w) * times(packed_for);
  return std::min(1.0, rows) * (packed + 8 * times(kInnerRows));
}

/// Query-key pairs that one head of one sequence computes.
int64_t scores_of_head(int64_t S) {
  int64_t pairs = 0;
  for (int64_t q = 0; q < S; q += kQueryBlock) {
    pairs += kQueryBlock * round_up(std::min(q + kQueryBlock, S), kKeyBlock);
  }
  return pairs;
}

struct Counts {
  double elements;  // that a rank holds
  int64_t ranks;    // that reduce them
  double leaves;
};

/// Messages of reducing and gathering one buffer, by ZeRO stage.
double ring_messages(const Counts& buffer, int64_t stage, double batches) {
  const auto hops = static_cast<double>(buffer.ranks - 1);
  if (stage == 0) return 2 * hops;
  const double piece = buffer.elements / static_cast<double>(buffer.ranks);
  const double reductions =
      stage == 1 ? std::max(1.0, std::ceil(piece / kReducedAtOnce)) : batches * buffer.leaves;
  return (reductions + 1) * hops;
}

void add_communication(const RunConfig& config, at::ScalarType compute, int64_t world_size,
                       const ModelSize& size, StepWork& work) {
  const int64_t EP = config.parallel.expert;
  const auto batches = static_cast<double>(micro_batches(config, world_size));
  const auto L = static_cast<double>(config.model.num_hidden_layers);
  const auto moe_layers =
      static_cast<double>(moe_layer_indices(config.moe, config.model.num_hidden_layers).size());
  const StepVolumes volumes = planned_volumes(config, compute, world_size, RoutingCase::kBalanced);
  const double forwards = volumes.dispatch_backward == 0
                              ? 1
                              : static_cast<double>(volumes.dispatch_forward) /
                                    static_cast<double>(volumes.dispatch_backward);
  const double local = static_cast<double>(config.moe.num_experts) / static_cast<double>(EP);
  work.exchange_messages =
      moe_layers * batches * static_cast<double>(EP - 1) * (forwards * (1 + 2 * local) + 2 * local);
  work.exchange_bytes = static_cast<double>(volumes.exchange());
  const Counts dense{static_cast<double>(size.dense_parameters), world_size, kDenseLeaves * L};
  const Counts expert{static_cast<double>(size.expert_parameters) / static_cast<double>(EP),
                      world_size / EP, kExpertLeaves * moe_layers};
  work.reduction_messages = ring_messages(dense, config.zero.stage, batches) +
                            ring_messages(expert, config.zero.stage, batches) +
                            3 * 2 * std::ceil(std::log2(static_cast<double>(world_size)));
  work.reduction_bytes = static_cast<double>(volumes.reduction + volumes.gather);
}

/// Of an expert group's ranks, how many are on a rank's own host, itself among them.
int64_t expert_ranks_on_host(const RunConfig& config, int64_t world_size, int64_t ranks_per_host) {
  const int64_t EP = config.parallel.expert;
  const int64_t apart = config.parallel.order == "expert_inner" ? 1 : world_size / EP;
  return std::clamp<int64_t>(ranks_per_host / apart, 1, EP);
}

}  // namespace

StepWork step_work(RunConfig config, at::ScalarType compute, int64_t world_size) {
  config.train.recompute = "none";
  const ModelConfig& model = config.model;
  const int64_t S = config.data.sequence_length, B = config.train.micro_batch_size,
                EP = config.parallel.expert, w = compute == at::kFloat ? 4 : 2;
  const auto L = static_cast<double>(model.num_hidden_layers);
  const auto moe_layers =
      static_cast<double>(moe_layer_indices(config.moe, model.num_hidden_layers).size());
  const auto T = static_cast<double>(S * B), N = static_cast<double>(model.num_attention_heads),
             H = static_cast<double>(model.head_dim);
  const auto batches = static_cast<double>(micro_batches(config, world_size));
  const ModelSize size = model_size(model, config.moe, S);

  const auto experts = static_cast<double>(config.moe.num_experts),
             local = experts / static_cast<double>(EP);
  const double expert =
      moe_layers == 0 ? 0 : static_cast<double>(size.expert_parameters) / (moe_layers * experts);
  const auto choices = static_cast<double>(choices_per_token(config.moe, Mode::kTrain));
  const double causal = 6 * L * static_cast<double>(S) * N * H;
  const double dense = (size.flops_per_token - causal) / 6 - moe_layers * choices * expert;
  const double rows =
      static_cast<double>(routed_rows(config, RoutingCase::kBalanced).arrived) / local;

  StepWork work;
  work.scores = batches * L * N * static_cast<double>(B * scores_of_head(S));
  work.dense_flops = batches * 6 * T * dense + 7 * 2 * H * work.scores;
  work.expert_flops = batches * moe_layers * local * expert * flops_per_weight(rows);
  const double kept = static_cast<double>(
      planned_activations(config, compute, world_size, RoutingCase::kBalanced).kept);
  const double logits = T * static_cast<double>(model.vocab_size);
  work.activation_bytes = batches * (4 * kept + logits * static_cast<double>(8 + 3 * w));
  work.weight_bytes =
      batches * (dense * traffic_per_weight(T, kTaskRows, w) +
                 moe_layers * local * expert * traffic_per_weight(rows, kSwiGluWaveRows, w));
  const double held = static_cast<double>(size.dense_parameters) +
                      static_cast<double>(size.expert_parameters) / static_cast<double>(EP);
  const double owned = config.zero.stage == 0 ? held
                                              : static_cast<double>(size.total_parameters()) /
                                                    static_cast<double>(world_size);
  work.optimizer_bytes =
      4 * (config.zero.stage == 2 ? owned : held) + owned * (compute == at::kFloat ? 32 : 34);
  work.layers = batches * L;
  add_communication(config, compute, world_size, size, work);
  return work;
}

int64_t planned_threads(const RunConfig& config, const CostModel& costs, int64_t world_size) {
  if (config.train.threads != kAuto) return config.train.threads;
  return std::max<int64_t>(1, costs.cores / std::min(world_size, costs.ranks_per_host));
}

StepCost step_cost(const StepWork& work, const RunConfig& config, at::ScalarType compute,
                   int64_t world_size, const CostModel& costs, double imbalance) {
  if (spans_hosts(costs, world_size) && !costs.network) {
    throw ConfigError(costs.path + ": `network` is missing: " + std::to_string(world_size) +
                      " ranks are more than the " + std::to_string(costs.ranks_per_host) +
                      " of one host (`ranks_per_host`); add network: {latency_us: 5, "
                      "gbytes_per_second: 12.5}, with your network's numbers for each rank");
  }
  const ThreadCosts& unit = compute == at::kFloat ? costs.fp32 : costs.bf16;
  const auto threads = static_cast<double>(planned_threads(config, costs, world_size));
  StepCost cost;
  cost.products = (work.dense_flops + work.expert_flops) * unit.flop / threads;
  cost.scores = work.scores * unit.score / threads;
  cost.activations = work.activation_bytes * unit.activation_byte / threads;
  cost.weights = work.weight_bytes * unit.weight_byte / threads;
  cost.optimizer = work.optimizer_bytes * costs.optimizer_byte / threads;
  cost.layers = work.layers * unit.layer;

  const int64_t EP = config.parallel.expert;
  if (EP > 1) {
    cost.wait = (imbalance - 1) * work.expert_flops * unit.flop / threads;
    const int64_t beside = expert_ranks_on_host(config, world_size, costs.ranks_per_host) - 1;
    const double near = static_cast<double>(beside) / static_cast<double>(EP - 1);
    const LinkCosts far = costs.network.value_or(costs.host);
    cost.exchange =
        work.exchange_messages * (near * costs.host.message + (1 - near) * far.message) +
        work.exchange_bytes * (near * costs.host.exchange_byte + (1 - near) * far.exchange_byte);
  }
  if (world_size > 1) {
    const LinkCosts& link = spans_hosts(costs, world_size) ? *costs.network : costs.host;
    cost.reduction =
        work.reduction_messages * link.message + work.reduction_bytes * link.reduction_byte;
  }
  return cost;
}

}  // namespace switchyard
