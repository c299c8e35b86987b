#include "model/activation_plan.h"

#include <ATen/ATen.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gtest/gtest.h>

#include "config/load_config.h"
#include "distributed/solo_communicator.h"
#include "train/train_step.h"

namespace switchyard {
namespace {

/// Counts the bytes of tensors that this thread allocates, as LibTorch's own allocator reports
/// them (PeakBytes replaces that, which oneDNN's products do not allow).
class ReportedBytes final : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void* /*ptr*/, int64_t bytes, size_t /*allocated*/, size_t /*reserved*/,
                         c10::Device /*device*/) override {
    alive_ += bytes;
    peak_ = std::max(peak_, alive_);
  }
  bool memoryProfilingEnabled() const override { return true; }

  void restart() { start_ = peak_ = alive_; }
  int64_t rise() const { return peak_ - start_; }

 private:
  int64_t alive_ = 0, peak_ = 0, start_ = 0;
};

/// Counted and planned bytes of one micro-batch on one rank.
void expect_counted(const std::string& name, const RunConfig& config) {
  SCOPED_TRACE(name);
  FlightRecord record(0, 1);
  Session session({make_solo_communicator("world"), make_solo_communicator("expert parallel"),
                   make_solo_communicator("expert data parallel")},
                  record, 1, config);
  SampleBatch samples;
  samples.count = config.train.micro_batch_size;
  samples.length = config.data.sequence_length;
  for (int64_t i = 0; i < samples.count * (samples.length + 1); ++i)
    samples.tokens.push_back(i * i % config.model.vocab_size);
  for (int64_t i = 0; i < samples.count; ++i) {
    samples.order.push_back(i);
    samples.source.push_back(0);
    samples.valid.push_back(samples.length);
  }
  const std::vector<MicroBatch> batches(1, make_micro_batch(samples, config, 0));
  const auto reported = std::make_shared<ReportedBytes>();
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, reported);
  compute_gradients(session, batches);
  ReportedBytes& counted = *reported;
  counted.restart();
  compute_gradients(session, batches);
  const ActivationBytes planned =
      planned_activations(config, compute_dtype(config.train), 1, RoutingCase::kBalanced);
  EXPECT_NEAR(static_cast<double>(planned.peak), static_cast<double>(counted.rise()),
              0.01 * counted.rise());
}

RunConfig sample(const std::string& precision) {
  RunConfig config;
  config.model.vocab_size = 512;
  config.model.hidden_size = 128;
  config.model.num_hidden_layers = 3;
  config.model.num_attention_heads = 4;
  config.model.intermediate_size = 384;
  config.moe.layers = "none";
  config.moe.expert_intermediate_size = 192;
  config.data.sequence_length = 128;
  config.train.global_batch_size = config.train.micro_batch_size = 8;
  config.train.precision = precision;
  config.train.threads = 1;
  resolve_autos(config.model);
  return config;
}

TEST(ActivationPlanTest, EveryKindOfLayer) {
  for (const char* precision : {"fp32", "bf16"}) {
    const auto run = [&](const std::string& name, const auto& change) {
      RunConfig config = sample(precision);
      change(config);
      resolve_autos(config.model);
      expect_counted(std::string(precision) + " " + name, config);
    };
    run("dense", [](RunConfig&) {});
    for (const char* ffn : {"geglu", "gelu", "relu"}) {
      run(ffn, [&](RunConfig& c) { c.model.ffn = ffn; });
    }
    run("grouped queries", [](RunConfig& c) { c.model.num_key_value_heads = 1; });
    run("norms of heads", [](RunConfig& c) { c.model.qk_norm = "head"; });
    run("norms in full", [](RunConfig& c) { c.model.qk_norm = "full"; });
    run("dropout", [](RunConfig& c) { c.model.dropout = 0.1; });
    run("window", [](RunConfig& c) { c.model.sliding_window = 64; });
    run("documents", [](RunConfig& c) { c.data.mask_documents = true; });
    run("tied", [](RunConfig& c) { c.model.tie_word_embeddings = true; });
    run("large vocabulary", [](RunConfig& c) { c.model.vocab_size = 8192; });
    run("long", [](RunConfig& c) {
      c.data.sequence_length = 1024;
      c.train.micro_batch_size = c.train.global_batch_size = 1;
    });
    run("experts", [](RunConfig& c) { c.moe.layers = "all"; });
    run("experts relu", [](RunConfig& c) {
      c.moe.layers = "all";
      c.model.ffn = "relu";
    });
    run("experts gelu", [](RunConfig& c) {
      c.moe.layers = "all";
      c.model.ffn = "gelu";
    });
    run("one expert each", [](RunConfig& c) {
      c.moe.layers = "every:2";
      c.moe.top_k = 1;
    });
    run("shared experts", [](RunConfig& c) {
      c.moe.layers = "all";
      c.moe.shared_experts.num = 2;
      c.moe.shared_experts.intermediate_size = 100;
    });
    run("gated shared experts", [](RunConfig& c) {
      c.moe.layers = "all";
      c.moe.shared_experts.num = 2;
      c.moe.shared_experts.gated = true;
    });
  }
}

TEST(ActivationPlanTest, EveryKindOfLayerWithRecompute) {
  for (const char* precision : {"fp32", "bf16"}) {
    for (const char* recompute : {"experts", "layer"}) {
      const auto run = [&](const std::string& name, const auto& change) {
        RunConfig config = sample(precision);
        config.moe.layers = "all";
        config.train.recompute = recompute;
        change(config);
        resolve_autos(config.model);
        expect_counted(std::string(precision) + " " + recompute + " " + name, config);
      };
      run("experts", [](RunConfig&) {});
      run("geglu", [](RunConfig& c) {
        c.moe.layers = "every:2";
        c.model.ffn = "geglu";
      });
      run("relu", [](RunConfig& c) {
        c.moe.layers = "none";
        c.model.ffn = "relu";
      });
      run("dropout, documents and norms of heads", [](RunConfig& c) {
        c.model.dropout = 0.1;
        c.data.mask_documents = true;
        c.model.qk_norm = "head";
      });
      run("gated shared experts", [](RunConfig& c) {
        c.moe.layers = "every:2";
        c.moe.shared_experts.num = 2;
        c.moe.shared_experts.gated = true;
      });
    }
  }
}

}  // namespace
}  // namespace switchyard
