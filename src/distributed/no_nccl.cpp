// What a build without CUDA has in place of nccl_communicator.cpp and cuda_device.cpp.

#include <string>

#include "base/error.h"
#include "distributed/device.h"
#include "distributed/nccl_communicator.h"

namespace switchyard {
namespace {

constexpr const char* kNoCuda =
    "this build has no CUDA, and looks for no GPU; scripts/build_cuda.sh makes one that does, or "
    "set train.device: cpu";

}  // namespace

c10::Device select_device(const std::string& device, int /*local_rank*/) {
  if (device == "cpu") return c10::kCPU;
  throw ConfigError("train.device: " + device + ": " + kNoCuda);
}

void check_one_rank_per_gpu(Communicator& /*world*/, c10::Device /*device*/) {
  throw ConfigError(std::string("parallel.gpu_transport: nccl: ") + kNoCuda);
}

std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> /*host*/,
                                                     c10::Device /*device*/) {
  throw ConfigError(std::string("parallel.gpu_transport: nccl: ") + kNoCuda);
}

}  // namespace switchyard
