#include "config/overlap.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

TEST(Overlap, IsOnUnaskedWithNcclAlone) {
  RunConfig config;
  EXPECT_FALSE(overlaps_reduction(config));
  EXPECT_FALSE(overlaps_gather(config));
  config.train.device = "cuda";
  EXPECT_TRUE(overlaps_reduction(config));
  EXPECT_TRUE(overlaps_gather(config));
  config.parallel.gpu_transport = "mpi";
  EXPECT_FALSE(overlaps_reduction(config));
  EXPECT_FALSE(overlaps_gather(config));
}

TEST(Overlap, IsAsAskedWhateverComputes) {
  for (const char* device : {"cpu", "cuda"}) {
    RunConfig config;
    config.train.device = device;
    config.parallel.overlap_grad_reduce = "on";
    config.parallel.overlap_param_gather = "off";
    EXPECT_TRUE(overlaps_reduction(config)) << device;
    EXPECT_FALSE(overlaps_gather(config)) << device;
  }
}

}  // namespace
}  // namespace switchyard
