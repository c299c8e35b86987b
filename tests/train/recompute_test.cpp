#include "ops/recompute.h"

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>

#include <map>

#include "support/micro_batches.h"
#include "support/mpi_main.h"
#include "support/sample_config.h"
#include "support/sample_routers.h"
#include "support/tensors.h"
#include "support/watched_communicator.h"

// Runs at W = 1, 2, 4: whatever is recomputed, a step is the same to the bit, and routes once.

namespace switchyard {
namespace {

using at::Tensor;

/// Counts the regions that are entered on this thread, and what collectives are for.
class Counts {
 public:
  Counts() : outer_(current()) {
    current() = this;
    handle_ = at::addThreadLocalCallback(
        at::RecordFunctionCallback(&Counts::on_start).scopes({at::RecordScope::USER_SCOPE}));
  }
  ~Counts() {
    at::removeCallback(handle_);
    current() = outer_;
  }
  Counts(const Counts&) = delete;
  Counts& operator=(const Counts&) = delete;

  static Counts*& current() {
    thread_local Counts* counts = nullptr;
    return counts;
  }

  std::map<std::string, int> regions, collectives;

 private:
  static std::unique_ptr<at::ObserverContext> on_start(const at::RecordFunction& function) {
    current()->regions[function.name()] += 1;
    return nullptr;
  }

  Counts* const outer_;
  at::CallbackHandle handle_ = 0;
};

class CountedCommunicator final : public WatchedCommunicator {
 public:
  using WatchedCommunicator::WatchedCommunicator;

 private:
  void begins(const char* purpose) override {
    if (Counts::current() != nullptr) Counts::current()->collectives[purpose] += 1;
  }
};

/// What two steps leave behind on this rank.
struct Outcome {
  std::vector<double> reported;
  std::map<std::string, Tensor> tensors;
  std::map<std::string, int> regions, collectives;
};

/// Two steps in two micro-batches each. Collective over the world.
Outcome run(RunConfig config, const char* recompute, int64_t EP) {
  const int64_t r = test_runtime().rank(),
                mine = config.train.global_batch_size / test_runtime().world_size();
  config.train.recompute = recompute;
  config.train.micro_batch_size = mine / 2;
  config.parallel.expert = EP;
  Session session(watched<CountedCommunicator>(test_runtime().make_mesh(config.parallel)),
                  test_runtime().record(), 1, config);
  session.decoder().use_token_counts(at::ones({session.config().model.vocab_size}, at::kLong));
  std::vector<MicroBatch> batches;
  for (int64_t m = 0; m < 2; ++m) {
    batches.push_back(
        random_micro_batch(config, r * mine + m * mine / 2, mine / 2, "words", /*end_of_text=*/7));
  }
  Outcome outcome;
  Counts counts;
  for (int step = 0; step < 2; ++step) {
    const StepReport report = train_step(session, batches);
    for (const double x : {report.loss, report.aux, report.z, report.norms.total,
                           report.dropped_L[0], report.entropy_L[1]}) {
      outcome.reported.push_back(x);
    }
    outcome.tensors["counts " + std::to_string(step)] = report.counts.all_LE;
  }
  outcome.regions = counts.regions;
  outcome.collectives = counts.collectives;
  for (const ParameterStore::Buffer& buffer : session.store().buffers()) {
    const std::string kind = buffer.kind == ParameterKind::kDense ? "dense " : "expert ";
    outcome.tensors[kind + "weights"] = buffer.weights;
    outcome.tensors[kind + "gradients"] = buffer.gradients;
    outcome.tensors[kind + "moments"] = buffer.exp_avg_sq;
  }
  for (const auto& [name, x] : session.decoder().router_state()) outcome.tensors[name] = x;
  return outcome;
}

/// Compares the two modes with `none`, and says how often a layer's rows went their way.
void expect_same(const RunConfig& config, int64_t EP) {
  const Outcome none = run(config, "none", EP);
  for (const char* recompute : {"experts", "layer"}) {
    SCOPED_TRACE(recompute);
    const Outcome again = run(config, recompute, EP);
    EXPECT_EQ(again.reported, none.reported);
    ASSERT_EQ(again.tensors.size(), none.tensors.size());
    for (const auto& [name, x] : none.tensors) EXPECT_TRUE(same(again.tensors.at(name), x)) << name;
    EXPECT_EQ(again.regions.at("router"), none.regions.at("router"));
    const bool layer = std::string(recompute) == "layer";
    if (layer) {
      EXPECT_GT(again.regions.at("attention"), none.regions.at("attention"));
    }
    std::map<std::string, int> expected = none.collectives;
    if (layer && EP > 1) {  // two layers, micro-batches and steps
      for (const char* rows : {"dispatch of tokens", "return of tokens"}) expected.at(rows) += 8;
    }
    EXPECT_EQ(again.collectives, expected);
  }
}

/// EP 1 and 2; of four ranks 2, which are two groups of two.
template <class Body>
void for_each_expert_group(const Body& body) {
  const int64_t W = test_runtime().world_size();
  for (int64_t EP = W == 4 ? 2 : 1; EP <= std::min<int64_t>(W, 2); EP *= 2) {
    SCOPED_TRACE("EP " + std::to_string(EP));
    body(EP);
  }
}

TEST(RecomputedStepTest, IsTheSameInBothPrecisionsAtEveryZeroStage) {
  for (const char* precision : {"fp32", "bf16"}) {
    for (const int64_t stage : {0, 1, 2}) {
      SCOPED_TRACE(precision + std::string(", ZeRO-") + std::to_string(stage));
      RunConfig config = sample_config();
      config.train.precision = precision;
      config.zero.stage = stage;
      for_each_expert_group([&](int64_t EP) { expect_same(config, EP); });
    }
  }
}

// A fused attention and fused experts, then every other activation: without dropout and documents,
// which take other paths.
TEST(RecomputedStepTest, IsTheSameOnEveryPathOfTheFeedForwardLayers) {
  for (const char* precision : {"fp32", "bf16"}) {
    for (const char* ffn : {"swiglu", "geglu", "gelu", "relu"}) {
      SCOPED_TRACE(precision + std::string(", ") + ffn);
      RunConfig config = sample_config();
      config.data.mask_documents = false;
      config.model.dropout = config.moe.expert_dropout = 0.0;
      config.model.ffn = ffn;
      config.train.precision = precision;
      for_each_expert_group([&](int64_t EP) { expect_same(config, EP); });
    }
  }
}

TEST(RecomputedStepTest, IsTheSameWithEveryRouter) {
  for (const MoeConfig& moe : sample_routers(sample_config().moe)) {
    SCOPED_TRACE(moe.router.type);
    RunConfig config = sample_config();
    config.moe = moe;
    expect_same(config, test_runtime().world_size());
  }
}

TEST(RecomputedStepTest, IsTheSameWhereLayersAreFrozen) {
  RunConfig config = sample_config();
  config.zero.stage = 2;
  for (const std::vector<std::string>& freeze : {std::vector<std::string>{"model.embed_tokens.*"},
                                                 {"model.embed_tokens.*", "model.layers.0.*"},
                                                 {"*.experts.*"},
                                                 {"model.layers.2.self_attn.*", "*.mlp.gate.*"}}) {
    SCOPED_TRACE(freeze.back());
    config.train.freeze = freeze;
    expect_same(config, test_runtime().world_size());
  }
}

}  // namespace
}  // namespace switchyard
