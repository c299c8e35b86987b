#include "train/device_suite.h"

#include <ATen/ATen.h>

#include <cstdlib>

#include "base/file.h"
#include "base/random.h"
#include "checkpoint/checkpoint_saver.h"
#include "checkpoint/step_folder.h"
#include "data/prepare.h"
#include "support/device_runs.h"
#include "support/mpi_main.h"
#include "support/sample_routers.h"
#include "support/tensors.h"
#include "train/evaluator.h"
#include "train/generator.h"
#include "train/routing_diagnostics.h"
#include "train/snapshot.h"

namespace switchyard {

RunConfig DeviceTrainingTest::config_of_device() {
  RunConfig config = sample_device_config();
  config.parallel.gpu_transport = GetParam().gpu_transport;
  return config;
}

void DeviceTrainingTest::expect_same(const RunConfig& config) {
  expect_same_run(config, device(), GetParam().tolerance, GetParam().state_tolerance);
}

namespace {

using at::Tensor;

TEST_P(DeviceTrainingTest, EveryRouterLearnsTheSame) {
  const RunConfig base = config_of_device();
  MoeConfig plain = base.moe;
  plain.router = {};
  plain.capacity.factor.reset();
  for (const MoeConfig& moe : sample_routers(plain)) {
    SCOPED_TRACE(moe.router.type);
    RunConfig config = base;
    config.moe = moe;
    if (moe.router.type == "domain" || moe.router.type == "sequence") {
      config.data.path = {{"unused", 1.0, ""}, {"unused too", 1.0, ""}};
    }
    expect_same(config);
  }
}

TEST_P(DeviceTrainingTest, EveryOrderOfServiceDropsTheSame) {
  for (const char* priority : {"position", "choice", "probability", "probability_sum", "random"}) {
    SCOPED_TRACE(priority);
    RunConfig config = config_of_device();
    config.moe.capacity.priority = priority;
    config.moe.group_sequences = 2;
    expect_same(config);
  }
}

TEST_P(DeviceTrainingTest, WhatIsDecidedOnTheHostIsTheSame) {
  RunConfig config = config_of_device();
  config.moe.router.reroute_choices = 2;
  {
    SCOPED_TRACE("further choices");
    expect_same(config);
  }
  config.moe.router.reroute_choices = 0;
  config.moe.router.type = "group_limited";
  config.moe.router.n_group = 4;
  config.moe.router.topk_group = 2;
  config.moe.capacity.device_factor = 1.0;
  {
    SCOPED_TRACE("budgets of devices");
    expect_same(config);
  }
  config = config_of_device();
  config.moe.router.expert_dropout = 0.2;
  config.moe.router.noise_std = 0.1;
  config.moe.balance[0].adaptive = {0.5, 0.1, 0.9};
  {
    SCOPED_TRACE("draws and adaptive coefficients");
    expect_same(config);
  }
}

TEST_P(DeviceTrainingTest, EveryBalanceLossAndScopeIsTheSame) {
  for (const char* scope : {"group", "global", "global_lagged", "micro_batch"}) {
    SCOPED_TRACE(scope);
    RunConfig config = config_of_device();
    config.moe.balance = {{"switch", 0.05, scope, "mean"}, {"hf", 0.05, scope, "mean"}};
    expect_same(config);
  }
  for (const char* scope : {"group", "global", "micro_batch"}) {
    SCOPED_TRACE(scope);
    RunConfig config = config_of_device();
    config.moe.balance.clear();
    for (const char* type : {"importance", "entropy", "mean_importance", "local_entropy",
                             "mutual_information", "sparsity_l1"}) {
      config.moe.balance.push_back({type, 0.05, scope, "mean"});
    }
    expect_same(config);
  }
  RunConfig config = config_of_device();
  config.moe.balance = {{"sequence", 0.05, "group", "sum"}};
  expect_same(config);
}

TEST_P(DeviceTrainingTest, RecomputationZeroStagesAndChunksAreTheSame) {
  for (const char* recompute : {"none", "experts", "layer"}) {
    for (const int64_t stage : {0, 1, 2}) {
      SCOPED_TRACE(recompute + std::string(", ZeRO-") + std::to_string(stage));
      RunConfig config = config_of_device();
      config.train.recompute = recompute;
      config.zero.stage = stage;
      config.parallel.overlap_chunks = stage == 2 ? 2 : 1;
      config.parallel.expert = stage == 0 ? 1 : config.parallel.expert;
      expect_same(config);
    }
  }
}

TEST_P(DeviceTrainingTest, PlainStepsWithoutDropsOrDrawsAreTheSame) {
  RunConfig config = config_of_device();
  config.data.mask_documents = false;
  config.model.dropout = 0;
  config.moe.expert_dropout = 0;
  config.moe.capacity.factor.reset();
  config.moe.router.jitter_eps = 0;
  expect_same(config);
}

// With fixed choices, which rounding cannot turn, and weights small enough not to make it grow.
TEST_P(DeviceTrainingTest, BFloat16IsAsNearAsItsRounding) {
  RunConfig config = config_of_device();
  config.model.hidden_size = 64;  // rows that a GPU's kernels for bfloat16 take
  config.model.intermediate_size = 64;
  config.model.head_dim = 32;
  config.model.init_std = 0.05;
  config.moe.expert_intermediate_size = 64;
  config.moe.router = {};
  config.moe.router.type = "hash";
  config.moe.router.hash.parts = 2;
  expect_bf16_near_fp32(config, device(), 2e-2, 4e-2);  // moments are squares
}

// ------------------------------------------------- checkpoints, evaluation, text

/// A folder that all ranks see, with prepared text in it; gone with it.
class SharedFolder {
 public:
  SharedFolder() : mesh_(test_runtime().make_mesh({})) {
    std::string made;
    if (is_root()) {
      made = testing::TempDir() + "train-device-XXXXXX";
      TORCH_CHECK(::mkdtemp(made.data()) != nullptr, "mkdtemp ", made);
    }
    path_ = broadcast_text(*mesh_.world, made, 0, "folder");
    if (is_root()) prepare_text();
    mesh_.world->barrier("folder");
  }
  ~SharedFolder() {
    mesh_.world->barrier("folder");
    if (is_root()) remove_tree(path_);
  }
  SharedFolder(const SharedFolder&) = delete;
  SharedFolder& operator=(const SharedFolder&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  Communicator& world() const { return *mesh_.world; }

 private:
  bool is_root() const { return mesh_.world->rank() == 0; }

  void prepare_text() const {
    const RandomStream letters(5, "letters");
    std::string text;
    for (uint64_t i = 0; i < 800; ++i) text += static_cast<char>('a' + letters.block(i, 0)[0] % 26);
    write_file_atomically(*this / "text.txt", text);
    PrepareOptions options;
    options.text = {*this / "text.txt"};
    options.out = *this / "data";
    prepare(options);
  }

  Mesh mesh_;
  std::string path_;
};

/// Bytes of the text above are tokens.
RunConfig with_text(RunConfig config) {
  config.model.vocab_size = 320;
  config.train.precision = "bf16";  // a master copy too
  return config;
}

void expect_same_state(Session& actual, Session& expected) {
  for (const ParameterKind kind : {ParameterKind::kDense, ParameterKind::kExpert}) {
    const auto &a = actual.store().buffer(kind), &b = expected.store().buffer(kind);
    EXPECT_TRUE(same(a.weights.cpu(), b.weights.cpu()));
    EXPECT_TRUE(same(a.master.cpu(), b.master.cpu()));
    EXPECT_TRUE(same(a.exp_avg.cpu(), b.exp_avg.cpu()));
    EXPECT_TRUE(same(a.exp_avg_sq.cpu(), b.exp_avg_sq.cpu()));
  }
  const NamedState a = actual.decoder().router_state(), b = expected.decoder().router_state();
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(same(a[i].second.cpu(), b[i].second.cpu()));
  EXPECT_TRUE(same(actual.progress().lagged.all_LE, expected.progress().lagged.all_LE));
  EXPECT_EQ(actual.progress().step, expected.progress().step);
}

TEST_P(DeviceTrainingTest, ARunGoesOnFromOneDeviceOnTheOther) {
  const SharedFolder folder;
  const RunConfig config = with_text(config_of_device());
  for (const c10::Device from : {c10::Device(at::kCPU), device()}) {
    const c10::Device to = from.is_cpu() ? device() : c10::Device(at::kCPU);
    SCOPED_TRACE(from.is_cpu() ? "from the host" : "to the host");
    const auto before = make_session(config, from);
    train_step(*before, sample_step(config));
    const std::string checkpoints = folder / (from.is_cpu() ? "host" : "device");
    save_snapshot(*before, checkpoints, "", {});
    const auto after = make_session(config, to);
    load_snapshot(*after, checkpoints + "/" + step_folder_name(1), Restore::kRun);
    expect_same_state(*after, *before);
    const double loss = train_step(*before, sample_step(config)).loss;
    EXPECT_NEAR(train_step(*after, sample_step(config)).loss, loss, 2e-2 * loss);
  }
}

TEST_P(DeviceTrainingTest, ASaveInTheBackgroundHoldsWhatWasThereWhenItBegan) {
  const SharedFolder folder;
  const RunConfig config = with_text(config_of_device());
  const auto session = make_session(config, device());
  train_step(*session, sample_step(config));
  save_snapshot(*session, folder / "now", "", {});
  CheckpointSaver saver(*session->mesh().world, {folder / "later"});
  saver.start(snapshot_info(*session, "", {}), owned_slices(*session, SliceOf::kState));
  train_step(*session, sample_step(config));
  EXPECT_TRUE(saver.finish()->outcome.done());
  const auto now = make_session(config, at::kCPU), later = make_session(config, at::kCPU);
  load_snapshot(*now, folder / "now/" + step_folder_name(1), Restore::kRun);
  load_snapshot(*later, folder / "later/" + step_folder_name(1), Restore::kRun);
  expect_same_state(*later, *now);
}

TEST_P(DeviceTrainingTest, EvaluationAndTextAreTheSame) {
  const SharedFolder folder;
  RunConfig config = with_text(config_of_device());
  config.train.precision = "fp32";
  config.moe.capacity.eval_factor = 1.0;
  const auto host = make_session(config, at::kCPU), there = make_session(config, device());
  TokenCensus host_tokens, tokens;
  const auto expected = evaluate(*host, folder / "data", "train", 20, 0, nullptr, {}, &host_tokens);
  const auto actual = evaluate(*there, folder / "data", "train", 20, 0, nullptr, {}, &tokens);
  EXPECT_NEAR(actual->loss, expected->loss, GetParam().tolerance * expected->loss);
  EXPECT_EQ(tokens.tokens(folder.world()), host_tokens.tokens(folder.world()));

  SamplingOptions options;
  options.max_new_tokens = 12;
  const auto text_of = [&](Session& session) {
    return generate(session, {97, 98, 99}, options, 256, {}, [](int64_t) {});
  };
  EXPECT_EQ(text_of(*there), text_of(*host));
}

TEST_P(DeviceTrainingTest, WhatIsRecordedIsTheSame) {
  const SharedFolder folder;
  RunConfig config = with_text(config_of_device());
  config.train.precision = "fp32";
  const auto host = make_session(config, at::kCPU), there = make_session(config, device());
  RoutingCensus expected, actual;
  train_step(*host, sample_step(config), &expected);
  train_step(*there, sample_step(config), &actual);
  EXPECT_EQ(actual.exchanged(there->mesh()), expected.exchanged(host->mesh()));
  EXPECT_EQ(actual.router_logits(folder.world()).size(),
            expected.router_logits(folder.world()).size());

  const RoutingSample sample{folder / "data", "train", 20, 0, {}, 40};
  const RoutingSummary a = diagnose_routing(*there, sample), b = diagnose_routing(*host, sample);
  EXPECT_EQ(a.tokens, b.tokens);
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (size_t l = 0; l < b.layers.size(); ++l) {
    EXPECT_NEAR(*a.layers[l].entropy, *b.layers[l].entropy, 1e-4);
    EXPECT_NEAR(a.layers[l].dropped, b.layers[l].dropped, 1e-4);
    EXPECT_NEAR(*a.layers[l].router_mean, *b.layers[l].router_mean, 1e-4);
    EXPECT_NEAR(*a.layers[l].expert_similarity, *b.layers[l].expert_similarity, 1e-4);
    for (size_t e = 0; e < b.layers[l].output_norm_E.size(); ++e) {
      EXPECT_NEAR(a.layers[l].output_norm_E[e], b.layers[l].output_norm_E[e], 1e-4);
    }
  }
}

}  // namespace
}  // namespace switchyard
