#include "distributed/device.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "distributed/nccl_communicator.h"
#include "distributed/solo_communicator.h"

// What a build without CUDA says.

namespace switchyard {
namespace {

TEST(DeviceTest, TheHostIsWhatComputes) { EXPECT_TRUE(select_device("cpu", 3).is_cpu()); }

TEST(DeviceTest, AGpuIsRefusedWithTheWayOut) {
  try {
    select_device("cuda", 0);
    ADD_FAILURE() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(),
                 "train.device: cuda: this build has no CUDA, and looks for no GPU; "
                 "scripts/build_cuda.sh makes one that does, or set train.device: cpu");
    EXPECT_EQ(error.exit_code, kExitConfig);
  }
}

TEST(DeviceTest, SoIsNccl) {
  const c10::Device gpu(c10::kCUDA, 0);
  EXPECT_THROW(make_nccl_communicator(make_solo_communicator("world"), gpu), ConfigError);
  EXPECT_THROW(check_one_rank_per_gpu(*make_solo_communicator("world"), gpu), ConfigError);
}

}  // namespace
}  // namespace switchyard
