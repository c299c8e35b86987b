#include <ATen/ATen.h>

#include "gpu/support.h"

namespace switchyard {
namespace {

TEST_F(GpuTest, ATensorLivesAndAddsOnTheDevice) {
  const at::Tensor x = at::arange(6, at::device(at::kCUDA).dtype(at::kFloat));
  EXPECT_EQ((x + x).sum().item<float>(), 30.0f);
  EXPECT_EQ(why_no_gpu(), "");
}

}  // namespace
}  // namespace switchyard
