#include "support/device_runs.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "config/load_config.h"
#include "support/micro_batches.h"
#include "support/mpi_main.h"

namespace switchyard {

using at::Tensor;

RunConfig sample_device_config() {
  constexpr int64_t kSequences = 8, kLength = 6, kVocabulary = 64, kLayers = 3;
  RunConfig config;
  config.data.path = {{"unused", 1.0, ""}};
  config.data.sequence_length = kLength;
  config.data.mask_documents = true;
  config.model.vocab_size = kVocabulary;
  config.model.hidden_size = 12;
  config.model.num_hidden_layers = kLayers;
  config.model.num_attention_heads = 2;
  config.model.num_key_value_heads = 1;
  config.model.intermediate_size = 18;
  config.model.init_std = 0.3;
  config.model.dropout = 0.1;
  config.moe.layers = "0,2";
  config.moe.num_experts = 8;
  config.moe.top_k = 2;
  config.moe.expert_intermediate_size = 10;
  config.moe.expert_dropout = 0.1;
  config.moe.shared_experts = {1, 6, true};
  config.moe.capacity.factor = 1.0;
  config.moe.capacity.min = 1;
  config.moe.z_loss.coef = 0.01;
  config.moe.balance = {{"topk", 0.05, "group", "mean"}};
  config.moe.router.jitter_eps = 0.05;
  config.moe.router.selection_bias = true;
  config.moe.router.bias_update_rate = 0.01;
  config.optim.lr = 1e-3;
  config.train.threads = 1;
  config.train.precision = "fp32";
  config.train.global_batch_size = kSequences;
  config.train.micro_batch_size = kSequences / test_runtime().world_size() / 2;
  config.parallel.expert = test_runtime().world_size();
  config.parallel.gpu_transport = "mpi";
  resolve_autos(config.model);
  return config;
}

std::vector<MicroBatch> sample_step(const RunConfig& config) {
  const int64_t micro = config.train.micro_batch_size;
  std::vector<MicroBatch> batches;
  for (int64_t m = 0; m < 2; ++m) {
    batches.push_back(random_micro_batch(config, (2 * test_runtime().rank() + m) * micro, micro,
                                         "words", /*end_of_text=*/7));
  }
  return batches;
}

std::unique_ptr<Session> make_session(RunConfig config, c10::Device device) {
  auto session = std::make_unique<Session>(test_runtime().make_mesh(config.parallel, device),
                                           test_runtime().record(),
                                           /*local_ranks=*/1, config, Purpose::kTraining, device);
  session->decoder().use_token_counts(at::ones({config.model.vocab_size}, at::kLong));
  return session;
}

DeviceRun run_steps(const RunConfig& config, c10::Device device, int steps) {
  const std::unique_ptr<Session> session = make_session(config, device);
  const std::vector<MicroBatch> batches = sample_step(config);
  DeviceRun run;
  for (int step = 0; step < steps; ++step) {
    const StepReport report = train_step(*session, batches);
    for (const double x : {report.loss, report.aux, report.z, report.norms.dense,
                           report.norms.expert, report.norms.total}) {
      run.reported.push_back(x);
    }
    for (const auto* list : {&report.dropped_L, &report.entropy_L}) {
      run.reported.insert(run.reported.end(), list->begin(), list->end());
    }
    if (step > 0) continue;
    for (const ParameterStore::Buffer& buffer : session->store().buffers()) {
      run.first_gradients.push_back(buffer.gradients.cpu().clone());
    }
    run.state["counts"] = report.counts.all_LE.cpu();
  }
  for (const ParameterStore::Buffer& buffer : session->store().buffers()) {
    const std::string kind = buffer.kind == ParameterKind::kDense ? "dense " : "expert ";
    run.state[kind + "weights"] = buffer.weights.cpu();
    run.state[kind + "moments"] = buffer.exp_avg_sq.cpu();
    if (buffer.master.defined()) run.state[kind + "master"] = buffer.master.cpu();
  }
  for (const auto& [name, x] : session->decoder().router_state()) run.state[name] = x.cpu();
  return run;
}

double relative_error(const Tensor& actual, const Tensor& expected) {
  const Tensor a = actual.detach().cpu().to(at::kDouble),
               b = expected.detach().cpu().to(at::kDouble);
  const double apart = (a - b).norm().item<double>(), norm = b.norm().item<double>();
  return apart == 0 ? 0.0 : apart / norm;
}

void expect_same_run(const RunConfig& config, c10::Device device, double tolerance,
                     double state_tolerance) {
  const DeviceRun host = run_steps(config, at::kCPU), there = run_steps(config, device);
  ASSERT_EQ(there.reported.size(), host.reported.size());
  for (size_t i = 0; i < host.reported.size(); ++i) {
    EXPECT_NEAR(there.reported[i], host.reported[i],
                tolerance * std::max(1.0, std::abs(host.reported[i])))
        << "number " << i;
  }
  for (const size_t kind : {0, 1}) {
    EXPECT_LE(relative_error(there.first_gradients[kind], host.first_gradients[kind]), tolerance)
        << (kind == 0 ? "dense gradients" : "gradients of experts");
  }
  ASSERT_EQ(there.state.size(), host.state.size());
  for (const auto& [name, x] : host.state) {
    EXPECT_LE(relative_error(there.state.at(name), x), state_tolerance) << name;
  }
}

}  // namespace switchyard
