#include "model/step_volumes.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "config/load_config.h"
#include "distributed/simulated_communicator.h"
#include "support/counting_communicator.h"
#include "support/mpi_main.h"
#include "train/train_step.h"

// At W = 2 and 4: what a step's collectives send, against the plan.

namespace switchyard {
namespace {

RunConfig sample_config(int64_t stage) {
  RunConfig config;
  config.model.vocab_size = 64;
  config.model.hidden_size = 16;
  config.model.num_hidden_layers = 3;
  config.model.num_attention_heads = 2;
  config.model.intermediate_size = 64;
  config.moe.layers = "last:2";
  config.moe.num_experts = 8;
  config.moe.top_k = 1;
  config.moe.expert_intermediate_size = 32;
  config.moe.router.type = "hash";
  config.moe.router.hash.method = "balanced";
  config.data.sequence_length = 64;
  config.parallel.expert = 2;
  config.zero.stage = stage;
  config.train.micro_batch_size = 2;
  config.train.global_batch_size = 2 * 2 * test_runtime().world_size();
  config.train.precision = "fp32";
  config.train.threads = 1;
  resolve_autos(config.model);
  return config;
}

/// Every token as often as every other, so that routing by token is exactly balanced.
MicroBatch every_token(const RunConfig& config) {
  SampleBatch samples;
  samples.count = config.train.micro_batch_size;
  samples.length = config.data.sequence_length;
  for (int64_t b = 0; b < samples.count; ++b) {
    for (int64_t s = 0; s <= samples.length; ++s) samples.tokens.push_back(s % 64);
    samples.order.push_back(b);
    samples.source.push_back(0);
  }
  return make_micro_batch(samples, config, /*end_of_text=*/0);
}

SentBytes sent_by_a_step(const RunConfig& config) {
  SentBytes sent;
  Session session(watched<CountingCommunicator>(test_runtime().make_mesh(config.parallel), sent),
                  test_runtime().record(), test_runtime().local_size(), config);
  session.decoder().use_token_counts(at::ones({64}, at::kLong));
  train_step(session, std::vector<MicroBatch>(2, every_token(config)));
  return sent;
}

TEST(StepVolumesTest, BalancedRoutingSendsWhatIsPlanned) {
  for (const int64_t stage : {0, 1, 2}) {
    SCOPED_TRACE(stage);
    const RunConfig config = sample_config(stage);
    const SentBytes sent = sent_by_a_step(config);
    const StepVolumes planned =
        planned_volumes(config, at::kFloat, test_runtime().world_size(), RoutingCase::kBalanced);
    EXPECT_EQ(planned.exchange(), sent.rows);
    // Half of 128 rows, two layers, two micro-batches, four ways, 16 floats.
    EXPECT_EQ(sent.rows, 64 * 2 * 2 * 4 * 16 * 4);
    EXPECT_EQ(planned.gather, sent.weights);
    // At stage 2 leaves are cut where the partition of the buffer is: shares are not equal, and
    // those of all ranks make the whole.
    at::Tensor total = at::tensor({sent.gradients}, at::kLong);
    const Mesh mesh = test_runtime().make_mesh(config.parallel);
    mesh.world->all_reduce(total, ReduceOp::kSum, "bytes of the test");
    EXPECT_EQ(planned.reduction * test_runtime().world_size(), total.item<int64_t>());
  }
}

/// A step of this rank, on the same tokens as those of all others: in a world that is there, or in
/// one whose other ranks are not.
struct OneStep {
  OneStep(Mesh mesh, const RunConfig& config)
      : session(std::move(mesh), test_runtime().record(), /*local_ranks=*/1, config) {
    session.decoder().use_token_counts(at::ones({64}, at::kLong));
    report = train_step(session, std::vector<MicroBatch>(2, every_token(config)));
  }
  Session session;
  StepReport report;
};

Mesh simulated_mesh(const RunConfig& config, TrafficLog& log) {
  return make_simulated_mesh(config.parallel, test_runtime().rank(), test_runtime().world_size(),
                             /*ranks_per_host=*/1, log);
}

TEST(StepVolumesTest, ASimulatedRankSendsWhatARealOneDoes) {
  for (const int64_t stage : {0, 1, 2}) {
    for (const char* recompute : {"none", "layer"}) {
      SCOPED_TRACE(std::to_string(stage) + recompute);
      RunConfig config = sample_config(stage);
      config.train.recompute = recompute;
      const SentBytes sent = sent_by_a_step(config);
      TrafficLog log;
      const OneStep step(simulated_mesh(config, log), config);
      EXPECT_EQ(log.bytes_for("dispatch of tokens") + log.bytes_for("return of tokens"), sent.rows);
      EXPECT_EQ(log.bytes_for("gradients of ") + log.bytes_for("gradient of "), sent.gradients);
      EXPECT_EQ(log.bytes_for("weights after the update"), sent.weights);
    }
  }
}

TEST(StepVolumesTest, ASimulatedRankComputesWhatARealOneDoesWhereAllDoTheSame) {
  // Where no rank has experts of its own, ranks with the same tokens are all alike.
  RunConfig config = sample_config(/*stage=*/1);
  config.parallel.expert = 1;
  OneStep real(test_runtime().make_mesh(config.parallel), config);
  TrafficLog log;
  OneStep simulated(simulated_mesh(config, log), config);
  EXPECT_EQ(simulated.report.loss, real.report.loss);
  for (const ParameterKind kind : {ParameterKind::kDense, ParameterKind::kExpert}) {
    const auto own_gradients = [&](OneStep& step) {
      const ParameterStore::Buffer& buffer = step.session.store().buffer(kind);
      return buffer.gradients.narrow(0, buffer.shard.begin, buffer.shard.size());
    };
    // Sums of equal numbers, a power of two of them, are exact.
    EXPECT_TRUE(at::equal(own_gradients(simulated), own_gradients(real)));
    EXPECT_GT(own_gradients(real).abs().max().item<float>(), 0);
  }
}

TEST(StepVolumesTest, ALayerThatIsRunAgainSendsItsRowsAgain) {
  RunConfig config = sample_config(/*stage=*/2);
  const SentBytes once = sent_by_a_step(config);
  for (const auto& [recompute, ways] : {std::pair{"experts", 4}, std::pair{"layer", 6}}) {
    SCOPED_TRACE(recompute);
    config.train.recompute = recompute;
    const SentBytes sent = sent_by_a_step(config);
    EXPECT_EQ(sent.rows, once.rows / 4 * ways);
    EXPECT_EQ(sent.rows, planned_volumes(config, at::kFloat, test_runtime().world_size(),
                                         RoutingCase::kBalanced)
                             .exchange());
    EXPECT_EQ(sent.gradients, once.gradients);  // every leaf is reduced once
  }
}

}  // namespace
}  // namespace switchyard
