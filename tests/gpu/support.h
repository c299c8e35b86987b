#pragma once

#include <gtest/gtest.h>

#include <string>

namespace switchyard {

/// GPUs that this process sees: 0 without one, or without a driver.
int visible_gpus();

/// Why there is none, in the driver's words; "" where there is one.
std::string why_no_gpu();

/// Skips the test that calls it, where this process sees fewer than `gpus` GPUs: says "no CUDA
/// device: ..." where it sees none. To be called from SetUp, after which the body of a
/// test that was skipped does not run; a test of its own goes on after it.
void gpu_or_skip(int gpus = 1);

/// The fixture of a test that needs one GPU.
class GpuTest : public testing::Test {
 protected:
  void SetUp() override { gpu_or_skip(); }
};

}  // namespace switchyard
