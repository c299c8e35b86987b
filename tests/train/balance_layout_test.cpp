#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>

#include "config/load_config.h"
#include "distributed/solo_communicator.h"
#include "support/micro_batches.h"
#include "support/mpi_main.h"

// Runs at W = 1, 2, 4: every balance loss has one value and one gradient, however the
// step is spread over ranks, expert parallelism and micro-batches.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t kSequences = 16, kLength = 5, kVocabulary = 64;

// `load` needs a router that gives one.
const std::vector<std::string> kTypes = {"switch",
                                         "gshard",
                                         "topk",
                                         "hf",
                                         "importance",
                                         "expert",
                                         "device",
                                         "communication",
                                         "entropy",
                                         "local_entropy",
                                         "global_entropy",
                                         "sparsity_l1",
                                         "mean_importance",
                                         "mutual_information"};

RunConfig config_of(const BalanceConfig& balance) {
  RunConfig config;
  config.data.path = {{"unused", 1.0, ""}};
  config.data.sequence_length = kLength;
  config.model.vocab_size = kVocabulary;
  config.model.hidden_size = 12;
  config.model.num_hidden_layers = 2;
  config.model.num_attention_heads = 2;
  config.model.init_std = 0.3;
  config.moe.num_experts = 8;
  config.moe.expert_intermediate_size = 7;
  config.moe.router.type = "group_limited";
  config.moe.router.n_group = 4;
  config.moe.router.topk_group = 2;
  config.moe.router.group_score = "max";
  config.moe.balance = {balance};
  config.zero.stage = 0;
  config.train.threads = 1;
  config.train.precision = "fp32";
  config.train.global_batch_size = kSequences;
  resolve_autos(config.model);
  return config;
}

struct Outcome {
  double aux = 0;
  std::map<std::string, Tensor> gradients;
  uint64_t events = 0;  // phases and collectives of the step on this rank
};

/// One step of this world in `accumulation` micro-batches. Collective.
Outcome step(RunConfig config, Mesh mesh, int64_t accumulation) {
  const int64_t W = mesh.world->size(), r = mesh.world->rank(), mine = kSequences / W;
  config.train.micro_batch_size = mine / accumulation;
  config.parallel.expert = mesh.expert->size();
  Session session(std::move(mesh), test_runtime().record(), 1, config);
  std::vector<MicroBatch> batches;
  for (int64_t m = 0; m < accumulation; ++m) {
    batches.push_back(random_micro_batch(config, r * mine + m * config.train.micro_batch_size,
                                         config.train.micro_batch_size, "words"));
  }
  Outcome outcome;
  const uint64_t before = session.record().changes();
  outcome.aux = compute_gradients(session, batches).aux;
  outcome.events = session.record().changes() - before;
  for (const PlacedPart& placed : session.store().parts()) {
    outcome.gradients[placed.part.name] = session.store().gradient_of(placed).clone();
  }
  return outcome;
}

Outcome step_alone(const RunConfig& config) {
  return step(config,
              {make_solo_communicator("world"), make_solo_communicator("expert parallel"),
               make_solo_communicator("expert data parallel")},
              /*accumulation=*/1);
}

double relative(const Tensor& actual, const Tensor& expected) {
  return ((actual - expected).norm() / expected.norm().clamp_min(1e-6)).item<double>();
}

void expect_same_on_every_layout(const BalanceConfig& balance) {
  SCOPED_TRACE(balance.type + ", " + balance.scope + (balance.domain ? ", of a domain" : ""));
  const RunConfig config = config_of(balance);
  const Outcome alone = step_alone(config);
  BalanceConfig off = balance;
  off.coef = 0;
  const std::string gate = "model.layers.0.mlp.gate.weight";
  EXPECT_GT(relative(step_alone(config_of(off)).gradients.at(gate), alone.gradients.at(gate)),
            1e-3);
  const int world = test_runtime().world_size();
  for (int64_t expert = 1; expert <= std::min(world, 2); expert *= 2) {
    for (const int64_t accumulation : {1, 2, 4}) {
      SCOPED_TRACE("EP " + std::to_string(expert) + ", accumulation " +
                   std::to_string(accumulation));
      const Outcome here =
          step(config, test_runtime().make_mesh({expert, "expert_inner"}), accumulation);
      EXPECT_NEAR(here.aux, alone.aux, 3e-6 * std::max(1.0, std::abs(alone.aux)));
      for (const auto& [name, gradient] : here.gradients) {
        EXPECT_LT(relative(gradient, alone.gradients.at(name)), 2e-5) << name;
      }
    }
  }
}

std::vector<BalanceConfig> all_of_scope(const std::string& scope) {
  std::vector<BalanceConfig> all;
  for (const std::string& type : kTypes) {
    BalanceConfig balance;
    balance.type = type;
    balance.coef = 3;
    balance.scope = scope;
    all.push_back(balance);
    if (type != "local_entropy" && type != "global_entropy") continue;
    all.back().domain = 1;
    all.push_back(balance);
    if (type == "global_entropy") all.back().threshold = 3;
  }
  return all;
}

TEST(BalanceLayoutTest, AGroupsLossDoesNotKnowTheLayout) {
  for (const BalanceConfig& balance : all_of_scope("group")) expect_same_on_every_layout(balance);
  BalanceConfig sequence;
  sequence.type = "sequence";
  sequence.coef = 3;
  expect_same_on_every_layout(sequence);
}

TEST(BalanceLayoutTest, L4_TheStepsLossDoesNotKnowTheLayout) {
  for (const BalanceConfig& balance : all_of_scope("global")) expect_same_on_every_layout(balance);
}

// Whatever a loss sums over the step, it travels with the counts.
TEST(BalanceLayoutTest, NoLossOfTheStepAddsACollective) {
  for (const int64_t accumulation : {1, 2}) {
    BalanceConfig topk;
    topk.type = "topk";
    topk.scope = "global";
    const auto events = [&](const BalanceConfig& balance) {
      return step(config_of(balance), test_runtime().make_mesh({1, "expert_inner"}), accumulation)
          .events;
    };
    const uint64_t expected = events(topk);
    for (const BalanceConfig& balance : all_of_scope("global")) {
      EXPECT_EQ(events(balance), expected) << balance.type;
    }
    topk.scope = "group";
    EXPECT_LT(events(topk), expected);
  }
}

}  // namespace
}  // namespace switchyard
