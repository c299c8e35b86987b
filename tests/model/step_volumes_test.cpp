#include "model/step_volumes.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <numeric>

#include "config/load_config.h"
#include "support/mpi_main.h"
#include "train/train_step.h"

// At W = 2 and 4: what a step's collectives send, against the plan.

namespace switchyard {
namespace {

/// Bytes that this rank sends, each once, by what they are for.
struct SentBytes {
  int64_t rows = 0, gradients = 0, weights = 0;
};

/// Another communicator, whose bytes are counted.
class CountingCommunicator final : public Communicator {
 public:
  CountingCommunicator(std::unique_ptr<Communicator> inner, SentBytes& sent)
      : Communicator(inner->rank(), inner->size(), inner->name()),
        inner_(std::move(inner)),
        sent_(sent) {}

  void all_reduce(at::Tensor& x, ReduceOp op, const char* purpose) override {
    if (is(purpose, "gradients of")) sent_.gradients += 2 * others(x.nbytes()) / size();
    inner_->all_reduce(x, op, purpose);
  }
  void reduce_scatter(const at::Tensor& input, at::Tensor& output, const char* purpose) override {
    sent_.gradients += others(output.nbytes());
    inner_->reduce_scatter(input, output, purpose);
  }
  void reduce_scatter_uneven(const at::Tensor& input, const std::vector<int64_t>& counts,
                             at::Tensor& output, const char* purpose) override {
    sent_.gradients += static_cast<int64_t>(input.nbytes() - output.nbytes());
    inner_->reduce_scatter_uneven(input, counts, output, purpose);
  }
  void all_gather(const at::Tensor& input, at::Tensor& output, const char* purpose) override {
    if (is(purpose, "weights after")) sent_.weights += others(input.nbytes());
    inner_->all_gather(input, output, purpose);
  }
  void broadcast(at::Tensor& x, int root, const char* purpose) override {
    inner_->broadcast(x, root, purpose);
  }
  std::unique_ptr<RowsUnderWay> start_all_to_all(const at::Tensor& input, const RowBlocks& send,
                                                 at::Tensor& output, const RowBlocks& recv,
                                                 const char* purpose) override {
    if (is(purpose, "dispatch of tokens") || is(purpose, "return of tokens")) {
      const auto per_rank = static_cast<int64_t>(send.rows.size()) / size();
      const auto own = send.rows.begin() + rank() * per_rank;
      const int64_t leaving = send.total() - std::accumulate(own, own + per_rank, int64_t{0});
      sent_.rows += leaving * input.size(1) * input.element_size();
    }
    return inner_->start_all_to_all(input, send, output, recv, purpose);
  }
  void barrier(const char* purpose) override { inner_->barrier(purpose); }

 private:
  static bool is(const std::string& purpose, const char* start) {
    return purpose.starts_with(start);
  }
  int64_t others(size_t bytes) const { return (size() - 1) * static_cast<int64_t>(bytes); }

  std::unique_ptr<Communicator> inner_;
  SentBytes& sent_;
};

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
  Mesh mesh = test_runtime().make_mesh(config.parallel);
  for (auto* group : {&mesh.world, &mesh.expert, &mesh.data}) {
    *group = std::make_unique<CountingCommunicator>(std::move(*group), sent);
  }
  Session session(std::move(mesh), test_runtime().record(), test_runtime().local_size(), config);
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
