#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "config/load_config.h"
#include "support/micro_batches.h"
#include "support/mpi_main.h"
#include "support/tensors.h"
#include "support/watched_communicator.h"

// Runs at W = 1, 2, 4: `parallel.overlap_*` changes no bit of a run, but for the order in which
// more than two ranks' gradients are added.

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

Outcome train(const RunConfig& config, Mesh mesh) {
  Session session(std::move(mesh), test_runtime().record(), test_runtime().local_size(), config);
  Outcome outcome;
  for (int64_t step = 0; step < 2; ++step) {
    const StepReport report = train_step(session, batches_of(config, step));
    outcome.losses.push_back(report.loss);
    outcome.norms.push_back(report.norms.total);
  }
  session.store().finish_gather();
  for (const ParameterStore::Buffer& buffer : session.store().buffers()) {
    outcome.gradients.push_back(buffer.gradients.clone());
    outcome.weights.push_back(buffer.weights.clone());
  }
  return outcome;
}

Outcome train(const RunConfig& config) {
  return train(config, test_runtime().make_mesh(config.parallel));
}

Outcome train_in_chunks(RunConfig config, int64_t chunks) {
  config.parallel.overlap_chunks = chunks;
  return train(config);
}

/// To the bit with `bound` 0.
void expect_near(const Tensor& actual, const Tensor& expected, double bound) {
  if (bound == 0) {
    EXPECT_TRUE(same(actual, expected));
    return;
  }
  const double apart = (actual - expected).norm().item<double>();
  EXPECT_LE(apart, bound * expected.norm().item<double>());
}

void expect_near(const Outcome& actual, const Outcome& expected, double bound) {
  for (size_t step = 0; step < expected.losses.size(); ++step) {
    EXPECT_NEAR(actual.losses[step], expected.losses[step], bound * expected.losses[step]);
    EXPECT_NEAR(actual.norms[step], expected.norms[step], bound * expected.norms[step]);
  }
  for (size_t b = 0; b < expected.weights.size(); ++b) {
    SCOPED_TRACE("buffer " + std::to_string(b));
    expect_near(actual.weights[b], expected.weights[b], bound);
    expect_near(actual.gradients[b], expected.gradients[b], bound);
  }
}

void expect_the_same_bits(const RunConfig& config) {
  const Outcome plain = train_in_chunks(config, 1);
  EXPECT_NE(plain.losses[0], plain.losses[1]);
  for (const int64_t chunks : {2, 3, 100}) {
    SCOPED_TRACE(std::to_string(chunks) + " chunks");
    expect_near(train_in_chunks(config, chunks), plain, 0);
  }
}

void at_every_stage(const std::function<void(const RunConfig&)>& expect) {
  for (const int64_t stage : {0, 1, 2}) {
    for (const char* precision : {"fp32", "bf16"}) {
      SCOPED_TRACE("stage " + std::to_string(stage) + ", " + precision);
      RunConfig config = base_config();
      config.zero.stage = stage;
      config.train.precision = precision;
      expect(config);
    }
  }
}

TEST(OverlapTest, ATrainedModelIsTheSameAtEveryStage) { at_every_stage(expect_the_same_bits); }

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

/// Gradients reduced during backward and weights gathered during forward, and neither; and by a
/// transport that takes its time, in which nothing is used before it is there.
void expect_the_same(RunConfig config) {
  const bool is_exact = test_runtime().world_size() <= 2 || config.zero.stage == 2;
  const double bound = is_exact ? 0 : config.train.precision == "fp32" ? 1e-5 : 1e-3;
  config.parallel.overlap_grad_reduce = config.parallel.overlap_param_gather = "off";
  const Outcome plain = train(config);
  config.parallel.overlap_grad_reduce = config.parallel.overlap_param_gather = "on";
  const Outcome overlapped = train(config);
  expect_near(overlapped, plain, bound);
  config.parallel.overlap_chunks = 2;
  expect_near(train(config, watched<LateCommunicator>(test_runtime().make_mesh(config.parallel))),
              overlapped, 0);
}

TEST(OverlapTest, GradientsThatLeaveEarlyAndWeightsThatArriveLateAreTheSame) {
  at_every_stage(expect_the_same);
}

TEST(OverlapTest, WeightsThatLayersShareAndFrozenOnesAreTheSame) {
  for (const int64_t stage : {1, 2}) {
    SCOPED_TRACE("stage " + std::to_string(stage));
    RunConfig config = base_config();
    config.zero.stage = stage;
    config.parallel.expert = 1;
    config.model.tie_word_embeddings = true;
    config.moe.router.type = "recurrent";  // one for all layers
    config.moe.shared_experts = {1, 16, true};
    config.train.freeze = {"*.q_proj.weight", "*.experts.3.*"};
    config.train.recompute = "layer";
    expect_the_same(config);
  }
}

/// `notes` whose purpose is among `kinds`, each by its short name: "+D" where a dispatch begins.
std::string short_notes(const std::vector<std::string>& notes,
                        const std::map<std::string, std::string>& kinds) {
  std::string all;
  for (const std::string& note : notes) {
    const auto kind = kinds.find(note.substr(2));
    if (kind != kinds.end()) all += (all.empty() ? "" : " ") + note.substr(0, 1) + kind->second;
  }
  return all;
}

TEST(OverlapTest, BucketsLeaveAndArriveAmongTheExchangesOfTokens) {
  const int world = test_runtime().world_size();
  if (world == 1) return;  // nothing is sent
  RunConfig config = base_config();
  config.train.micro_batch_size = 2;
  config.train.global_batch_size = 2 * world;
  config.parallel.expert = world;  // so that dense parameters alone are reduced
  config.parallel.overlap_grad_reduce = config.parallel.overlap_param_gather = "on";
  std::vector<std::string> notes;
  Session session(watched<NotedCommunicator>(test_runtime().make_mesh(config.parallel), notes),
                  test_runtime().record(), test_runtime().local_size(), config);
  const std::vector<MicroBatch> batch = {batches_of(config, 0)[0]};
  train_step(session, batch);
  notes.clear();
  train_step(session, batch);
  // D dispatch, R return, W weights, G gradients. Buckets: embedding, two layers, norm and head.
  const std::map<std::string, std::string> kinds = {{"dispatch of tokens", "D"},
                                                    {"return of tokens", "R"},
                                                    {"weights after the update", "W"},
                                                    {"gradients of dense parameters", "G"}};
  EXPECT_EQ(short_notes(notes, kinds),
            "+W -W +W -W +D -D +R -R +W -W +D -D +R -R -W "  // forward
            "+G +R -R +D -D +G +R -R +D -D +G "              // backward
            "+G -G -G -G -G "                                // what is left
            "+W");                                           // after the update
}

}  // namespace
}  // namespace switchyard
