#include "gpu/support.h"

#include <cuda_runtime_api.h>

namespace switchyard {
namespace {

struct Gpus {
  int count = 0;
  cudaError_t error = cudaSuccess;
};

Gpus ask_the_driver() {
  Gpus gpus;
  gpus.error = cudaGetDeviceCount(&gpus.count);
  if (gpus.error != cudaSuccess) gpus.count = 0;
  cudaGetLastError();  // or the next call that is checked would report it again
  return gpus;
}

}  // namespace

int visible_gpus() { return ask_the_driver().count; }

std::string why_no_gpu() {
  const Gpus gpus = ask_the_driver();
  if (gpus.count > 0) return "";
  if (gpus.error == cudaSuccess) return "the driver shows none";
  return cudaGetErrorString(gpus.error);
}

void gpu_or_skip(int gpus) {
  const int visible = visible_gpus();
  if (visible == 0) GTEST_SKIP() << "no CUDA device: " << why_no_gpu();
  if (visible < gpus) GTEST_SKIP() << "needs " << gpus << " CUDA devices, " << visible << " here";
}

}  // namespace switchyard
