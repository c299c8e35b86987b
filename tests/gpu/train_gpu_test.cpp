#include <c10/cuda/CUDAFunctions.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "checkpoint/step_folder.h"
#include "distributed/device.h"
#include "gpu/support.h"
#include "support/device_runs.h"
#include "support/mpi_main.h"
#include "support/sample_routers.h"
#include "support/tensors.h"
#include "train/snapshot.h"

// Runs at W = 1, 2: a step on a GPU is the CPU's up to rounding. One rank has NCCL; two may share a
// GPU, and exchange through the host.

namespace switchyard {
namespace {

constexpr double kTolerance = 1e-4, kStateTolerance = 1e-3;

class TrainGpuTest : public GpuTest {
 protected:
  static c10::Device gpu() { return select_device("cuda", test_runtime().local_rank()); }

  static RunConfig config() {
    RunConfig sample = sample_device_config();
    sample.parallel.gpu_transport = test_runtime().world_size() == 1 ? "nccl" : "mpi";
    return sample;
  }

  static void expect_same(const RunConfig& config) {
    expect_same_run(config, gpu(), kTolerance, kStateTolerance);
  }
};

TEST_F(TrainGpuTest, EveryRouterLearnsTheSame) {
  MoeConfig plain = config().moe;
  plain.router = {};
  plain.capacity.factor.reset();
  for (const MoeConfig& moe : sample_routers(plain)) {
    SCOPED_TRACE(moe.router.type);
    RunConfig run = config();
    run.moe = moe;
    if (moe.router.type == "domain" || moe.router.type == "sequence") {
      run.data.path = {{"unused", 1.0, ""}, {"unused too", 1.0, ""}};
    }
    expect_same(run);
  }
}

TEST_F(TrainGpuTest, EveryOrderOfServiceDropsTheSame) {
  for (const char* priority : {"position", "choice", "probability", "probability_sum", "random"}) {
    SCOPED_TRACE(priority);
    RunConfig run = config();
    run.moe.capacity.priority = priority;
    run.moe.group_sequences = 2;
    expect_same(run);
  }
}

TEST_F(TrainGpuTest, RecomputationZeroStagesAndChunksAreTheSame) {
  for (const char* recompute : {"none", "experts", "layer"}) {
    for (const int64_t stage : {0, 1, 2}) {
      SCOPED_TRACE(recompute + std::string(", ZeRO-") + std::to_string(stage));
      RunConfig run = config();
      run.train.recompute = recompute;
      run.zero.stage = stage;
      run.parallel.overlap_chunks = stage == 2 ? 2 : 1;
      expect_same(run);
    }
  }
}

TEST_F(TrainGpuTest, BFloat16IsAsNearAsItsRounding) {
  RunConfig run = config();
  run.model.hidden_size = 64;  // rows that kernels for bfloat16 take
  run.model.intermediate_size = 64;
  run.model.head_dim = 32;
  run.moe.expert_intermediate_size = 64;
  run.moe.router = {};  // fixed choices: rounding would turn some of a router's
  run.moe.router.type = "hash";
  run.moe.router.hash.parts = 2;
  run.train.precision = "bf16";
  expect_same_run(run, gpu(), 4e-2, 8e-2);  // each is 2e-2 off; moments are squares
}

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

TEST_F(TrainGpuTest, NoOperatorOfAStepWaits) {
  if (test_runtime().world_size() > 1) return;  // copies through the host do
  for (const char* recompute : {"none", "layer"}) {
    RunConfig run = config();
    run.train.recompute = recompute;
    run.moe.router.jitter_eps = 0;
    const auto session = make_session(run, gpu());
    const auto batches = sample_step(run);
    for (int step = 0; step < 2; ++step) train_step(*session, batches);
    const RefuseWaits refuse;
    EXPECT_NO_THROW(train_step(*session, batches)) << recompute;
  }
}

TEST_F(TrainGpuTest, ARunGoesOnOnTheHost) {
  RunConfig run = config();
  run.train.precision = "bf16";
  const auto before = make_session(run, gpu());
  train_step(*before, sample_step(run));
  Communicator& world = *before->mesh().world;
  std::string folder = testing::TempDir() + "train-gpu-XXXXXX";
  if (world.rank() == 0) {
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  }
  folder = broadcast_text(world, folder, 0, "folder");
  save_snapshot(*before, folder, "", {});
  const auto after = make_session(run, at::kCPU);
  load_snapshot(*after, folder + "/" + step_folder_name(1), Restore::kRun);
  for (const ParameterKind kind : {ParameterKind::kDense, ParameterKind::kExpert}) {
    const auto &a = after->store().buffer(kind), &b = before->store().buffer(kind);
    EXPECT_TRUE(same(a.weights, b.weights.cpu()));
    EXPECT_TRUE(same(a.master, b.master.cpu()));
    EXPECT_TRUE(same(a.exp_avg_sq, b.exp_avg_sq.cpu()));
  }
  world.barrier("folder");
  if (world.rank() == 0) std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace switchyard
