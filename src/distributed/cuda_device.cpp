// The build with CUDA; one without has no_nccl.cpp.

#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdlib>

#include "base/error.h"
#include "distributed/device.h"

namespace switchyard {
namespace {

/// What is missing where CUDA finds no GPU, and what would help.
std::string explain(cudaError_t error) {
  const std::string said = std::string("; CUDA says: ") + cudaGetErrorString(error);
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY);
  if (driver == nullptr) {
    return std::string("looked for NVIDIA's driver and found none: ") + dlerror() + said +
           "; install the driver on this host, give the container its GPUs (docker run --gpus "
           "all), "
           "or set train.device: cpu";
  }
  dlclose(driver);
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  return std::string("looked for a GPU by the driver libcuda.so.1 and found none") +
         (visible == nullptr ? "" : std::string(" with CUDA_VISIBLE_DEVICES=") + visible) + said +
         "; `nvidia-smi` shows what this host has; or set train.device: cpu";
}

}  // namespace

c10::Device select_device(const std::string& device, int local_rank) {
  if (device == "cpu") return c10::kCPU;
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count == 0) error = cudaErrorNoDevice;
  if (error != cudaSuccess) {
    cudaGetLastError();  // or the next call that is checked would report it again
    throw ConfigError("train.device: " + device + ": " + explain(error));
  }
  // LibTorch wants it where it is to multiply matrices among kernels that repeat themselves
  // (ops/causal_attention.cpp).
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  const auto index = static_cast<c10::DeviceIndex>(local_rank % count);
  c10::cuda::set_device(index);
  return {c10::kCUDA, index};
}

}  // namespace switchyard
