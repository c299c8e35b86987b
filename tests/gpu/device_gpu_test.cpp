#include <gtest/gtest.h>

#include "base/error.h"
#include "distributed/device.h"
#include "gpu/support.h"

namespace switchyard {
namespace {

TEST_F(GpuTest, RanksOfAHostHaveTheGpusInTurn) {
  const int gpus = visible_gpus();
  for (int rank = 0; rank < 2 * gpus; ++rank) {
    const c10::Device device = select_device("cuda", rank);
    EXPECT_TRUE(device.is_cuda());
    EXPECT_EQ(device.index(), rank % gpus);
  }
  select_device("cuda", 0);
}

TEST(DeviceTest, TheHostIsThereWithoutAGpu) { EXPECT_TRUE(select_device("cpu", 3).is_cpu()); }

TEST(DeviceTest, WithoutAGpuItSaysWhatItLookedFor) {
  if (visible_gpus() > 0) return;
  try {
    select_device("cuda", 0);
    ADD_FAILURE() << "no error";
  } catch (const ConfigError& error) {
    const std::string what = error.what();
    EXPECT_EQ(what.find("train.device: cuda: looked for "), 0U) << what;
    EXPECT_NE(what.find("CUDA says: " + why_no_gpu()), std::string::npos) << what;
    EXPECT_NE(what.find("set train.device: cpu"), std::string::npos) << what;
  }
}

}  // namespace
}  // namespace switchyard
