#include "support/device_runs.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "support/micro_batches.h"
#include "support/mpi_main.h"
#include "support/sample_config.h"

namespace switchyard {

using at::Tensor;

RunConfig sample_device_config() {
  RunConfig config = sample_config();
  config.moe.top_k = 2;
  config.moe.balance = {{"topk", 0.05, "group", "mean"}};
  config.moe.router.jitter_eps = 0.05;
  config.moe.router.selection_bias = true;
  config.moe.router.bias_update_rate = 0.01;
  config.optim.lr = 1e-3;
  config.train.micro_batch_size = config.train.global_batch_size / test_runtime().world_size() / 2;
  config.parallel.expert = test_runtime().world_size();
  config.parallel.gpu_transport = "mpi";
  config.parallel.overlap_grad_reduce = config.parallel.overlap_param_gather = "on";
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
    session->store().finish_gather();
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

namespace {

void expect_near(const DeviceRun& actual, const DeviceRun& expected, double tolerance,
                 double state_tolerance) {
  ASSERT_EQ(actual.reported.size(), expected.reported.size());
  for (size_t i = 0; i < expected.reported.size(); ++i) {
    EXPECT_NEAR(actual.reported[i], expected.reported[i],
                tolerance * std::max(1.0, std::abs(expected.reported[i])))
        << "number " << i;
  }
  for (const size_t kind : {0, 1}) {
    EXPECT_LE(relative_error(actual.first_gradients[kind], expected.first_gradients[kind]),
              tolerance)
        << (kind == 0 ? "dense gradients" : "gradients of experts");
  }
  for (const auto& [name, x] : expected.state) {
    EXPECT_LE(relative_error(actual.state.at(name), x), state_tolerance) << name;
  }
}

}  // namespace

void expect_same_run(const RunConfig& config, c10::Device device, double tolerance,
                     double state_tolerance) {
  const DeviceRun host = run_steps(config, at::kCPU), there = run_steps(config, device);
  ASSERT_EQ(there.state.size(), host.state.size());
  expect_near(there, host, tolerance, state_tolerance);
}

void expect_bf16_near_fp32(RunConfig config, c10::Device device, double tolerance,
                           double state_tolerance) {
  config.train.precision = "fp32";
  const DeviceRun exact = run_steps(config, at::kCPU);
  config.train.precision = "bf16";
  expect_near(run_steps(config, device), exact, tolerance, state_tolerance);
}

}  // namespace switchyard
