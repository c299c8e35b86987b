#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "config/load_config.h"
#include "support/micro_batches.h"
#include "support/mpi_main.h"
#include "support/tensors.h"

// Runs at W = 1, 2, 4: `parallel.overlap_chunks` changes no bit of a run.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t kLength = 8, kVocabulary = 64;

RunConfig base_config() {
  RunConfig config;
  config.data.path = {{"unused", 1.0, ""}};
  config.data.sequence_length = kLength;
  config.model.vocab_size = kVocabulary;
  config.model.hidden_size = 32;
  config.model.num_hidden_layers = 2;
  config.model.num_attention_heads = 2;
  config.model.init_std = 0.3;
  config.moe.num_experts = 16;
  config.moe.top_k = 2;
  config.moe.expert_intermediate_size = 32;
  config.parallel.expert = std::min(2, test_runtime().world_size());
  config.train.threads = 1;
  config.train.precision = "fp32";
  config.train.micro_batch_size = 2;
  config.train.global_batch_size = 2 * 2 * test_runtime().world_size();
  config.optim.lr = 0.01;
  config.optim.schedule.warmup_steps = 0;
  resolve_autos(config.model);
  return config;
}

std::vector<MicroBatch> batches_of(const RunConfig& config, int64_t step) {
  std::vector<MicroBatch> batches;
  const int64_t count = config.train.micro_batch_size;
  for (int64_t m = 0; m < 2; ++m) {
    batches.push_back(random_micro_batch(config, (2 * test_runtime().rank() + m) * count, count,
                                         "words of step " + std::to_string(step)));
  }
  return batches;
}

/// What two steps leave behind on this rank.
struct Outcome {
  std::vector<double> losses, norms;
  std::vector<Tensor> gradients, weights;
};

Outcome train(RunConfig config, int64_t chunks) {
  config.parallel.overlap_chunks = chunks;
  Session session(test_runtime().make_mesh(config.parallel), test_runtime().record(),
                  test_runtime().local_size(), config);
  Outcome outcome;
  for (int64_t step = 0; step < 2; ++step) {
    const StepReport report = train_step(session, batches_of(config, step));
    outcome.losses.push_back(report.loss);
    outcome.norms.push_back(report.norms.total);
  }
  for (const ParameterStore::Buffer& buffer : session.store().buffers()) {
    outcome.gradients.push_back(buffer.gradients.clone());
    outcome.weights.push_back(buffer.weights.clone());
  }
  return outcome;
}

void expect_the_same_bits(const RunConfig& config) {
  const Outcome plain = train(config, 1);
  EXPECT_NE(plain.losses[0], plain.losses[1]);
  for (const int64_t chunks : {2, 3, 100}) {
    SCOPED_TRACE(std::to_string(chunks) + " chunks");
    const Outcome overlapped = train(config, chunks);
    EXPECT_EQ(overlapped.losses, plain.losses);
    EXPECT_EQ(overlapped.norms, plain.norms);
    for (size_t b = 0; b < plain.weights.size(); ++b) {
      EXPECT_TRUE(same(overlapped.gradients[b], plain.gradients[b])) << "buffer " << b;
      EXPECT_TRUE(same(overlapped.weights[b], plain.weights[b])) << "buffer " << b;
    }
  }
}

TEST(OverlapTest, ATrainedModelIsTheSameAtEveryStage) {
  for (const int64_t stage : {0, 1, 2}) {
    for (const char* precision : {"fp32", "bf16"}) {
      SCOPED_TRACE("stage " + std::to_string(stage) + ", " + precision);
      RunConfig config = base_config();
      config.zero.stage = stage;
      config.train.precision = precision;
      expect_the_same_bits(config);
    }
  }
}

TEST(OverlapTest, ATrainedModelIsTheSameWhereTokensAreDropped) {
  RunConfig config = base_config();
  config.moe.capacity.factor = 1.0;
  config.moe.capacity.min = 1;
  config.moe.expert_dropout = 0.2;
  expect_the_same_bits(config);
}

TEST(OverlapTest, ATrainedModelIsTheSameWhereExpertsChoose) {
  RunConfig config = base_config();
  config.moe.router.type = "expert_choice";
  config.moe.allow_noncausal = true;
  config.moe.shared_experts = {1, 16, true};
  expect_the_same_bits(config);
}

}  // namespace
}  // namespace switchyard
