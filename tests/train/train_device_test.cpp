#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "distributed/solo_communicator.h"
#include "support/device_runs.h"
#include "support/host_device.h"
#include "support/mpi_main.h"
#include "train/device_suite.h"

// Runs at W = 1, 2: the path of a GPU, on a device of this host's memory that no loop of the CPU
// can read, computes what the CPU's own path computes.

namespace switchyard {
namespace {

INSTANTIATE_TEST_SUITE_P(HostDevice, DeviceTrainingTest,
                         testing::Values(DeviceUnderTest{"HostDevice", host_device, "mpi", 1e-5,
                                                         1e-4}));

/// What makes the host wait in the third step of a world of one.
HostDeviceTraffic traffic_of_step(const RunConfig& config) {
  Session session({make_solo_communicator("world"), make_solo_communicator("expert parallel"),
                   make_solo_communicator("expert data parallel")},
                  test_runtime().record(), /*local_ranks=*/1, config, Purpose::kTraining,
                  host_device());
  const std::vector<MicroBatch> batches = sample_step(config);
  for (int step = 0; step < 2; ++step) train_step(session, batches);
  const HostDeviceTraffic before = host_device_traffic();
  train_step(session, batches);
  const HostDeviceTraffic after = host_device_traffic();
  return {after.to_host - before.to_host, after.to_device - before.to_device,
          after.waits_to_device - before.waits_to_device};
}

TEST(HostDeviceTest, AStepWaitsOncePerLayerAndTwiceAtItsEnd) {
  constexpr int64_t kBatches = 2, kEnd = 2;  // the step's sums; the norms of gradients
  RunConfig config = sample_device_config();
  config.parallel.expert = 1;
  const int64_t expected = kBatches * 2 + kEnd;  // 2 MoE layers
  for (const char* recompute : {"none", "experts", "layer"}) {
    for (const char* scope : {"group", "global_lagged"}) {
      SCOPED_TRACE(recompute + std::string(", ") + scope);
      config.train.recompute = recompute;
      config.moe.balance = {{"topk", 0.05, scope, "mean"}};
      const HostDeviceTraffic traffic = traffic_of_step(config);
      EXPECT_EQ(traffic.to_host, expected);
      EXPECT_EQ(traffic.waits_to_device, 0);
    }
  }
  config.moe.capacity.factor.reset();
  config.moe.router.score = "sigmoid";
  EXPECT_EQ(traffic_of_step(config).to_host, expected);
}

}  // namespace
}  // namespace switchyard
