#include <ATen/cuda/CUDAContext.h>

#include "ops/cuda/kernels.h"

namespace switchyard::cuda {

bool has_grouped_mm() {
  const int major = at::cuda::getCurrentDeviceProperties()->major;
  return major == 9 || major == 10;
}

}  // namespace switchyard::cuda
