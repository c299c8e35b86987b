#include <c10/cuda/CUDAFunctions.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "distributed/device.h"
#include "gpu/support.h"
#include "support/device_runs.h"
#include "support/mpi_main.h"
#include "train/device_suite.h"

// Runs at W = 1, 2: a step on a GPU is the CPU's up to rounding. Two ranks that share a GPU
// exchange through the host; with one for each, and alone, they have NCCL.

namespace switchyard {
namespace {

c10::Device gpu() { return select_device("cuda", test_runtime().local_rank()); }

DeviceUnderTest gpu_of_each() {
  const bool has_nccl = test_runtime().local_size() <= std::max(1, visible_gpus());
  return {"Cuda", gpu, has_nccl ? "nccl" : "mpi", 1e-4, 1e-3, [] { gpu_or_skip(); }};
}

INSTANTIATE_TEST_SUITE_P(Gpu, DeviceTrainingTest, testing::Values(gpu_of_each()));

/// What LibTorch does when an operator makes the host wait, for a scope.
class RefuseWaits {
 public:
  RefuseWaits() { set(c10::cuda::SyncDebugMode::L_ERROR); }
  ~RefuseWaits() { set(c10::cuda::SyncDebugMode::L_DISABLED); }
  RefuseWaits(const RefuseWaits&) = delete;
  RefuseWaits& operator=(const RefuseWaits&) = delete;

 private:
  static void set(c10::cuda::SyncDebugMode mode) {
    c10::cuda::warning_state().set_sync_debug_mode(mode);
  }
};

TEST_F(GpuTest, NoOperatorOfAStepWaits) {
  if (test_runtime().world_size() > 1) return;  // copies through the host do
  for (const char* recompute : {"none", "layer"}) {
    RunConfig run = sample_device_config();
    run.parallel.gpu_transport = "nccl";
    run.train.recompute = recompute;
    run.moe.router.jitter_eps = 0;
    const auto session = make_session(run, gpu());
    const auto batches = sample_step(run);
    for (int step = 0; step < 2; ++step) train_step(*session, batches);
    const RefuseWaits refuse;
    EXPECT_NO_THROW(train_step(*session, batches)) << recompute;
  }
}

}  // namespace
}  // namespace switchyard
