#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "train/train_step.h"

namespace switchyard {

/// What a small model learns in a few steps on the ranks of test_runtime(), to hold one device
/// against another.

/// sample_config (sample_config.h) with balance losses, jitter and selection bias, experts over all
/// ranks.
RunConfig sample_device_config();

/// This rank's two micro-batches of a step.
std::vector<MicroBatch> sample_step(const RunConfig& config);

/// A session in the world of all ranks, on `device`: tensors cross by MPI, through the host where
/// they are not there. Collective.
std::unique_ptr<Session> make_session(RunConfig config, c10::Device device);

/// What some steps leave on this rank, copied to the host.
struct DeviceRun {
  std::vector<double> reported;             // of each step: losses, norms, drops, entropy
  std::vector<at::Tensor> first_gradients;  // of the first step, dense and of experts
  std::map<std::string, at::Tensor> state;  // weights, moments, the router's state, counts
};
DeviceRun run_steps(const RunConfig& config, c10::Device device, int steps = 2);

/// Runs on both and compares: what is reported within `tolerance` of itself, and the gradients and
/// state within it of their norms. Collective.
void expect_same_run(const RunConfig& config, c10::Device device, double tolerance,
                     double state_tolerance);

/// The same for a run in bfloat16 on the device beside one in float32 on the CPU, whose own
/// rounding is nothing beside bfloat16's.
void expect_bf16_near_fp32(RunConfig config, c10::Device device, double tolerance,
                           double state_tolerance);

/// |actual - expected| / |expected|, in float64 on the host; 0 where both are zero.
double relative_error(const at::Tensor& actual, const at::Tensor& expected);

}  // namespace switchyard
