#include "ops/host_copy.h"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace switchyard {

HostCopy::HostCopy(const at::Tensor& x) {
  if (!x.is_cuda()) {
    host_ = x.cpu().contiguous();
    return;
  }
  host_ = at::empty(x.sizes(), x.options().device(at::kCPU).pinned_memory(true));
  host_.copy_(x, /*non_blocking=*/true);
  copied_.emplace(at::kCUDA);
  copied_->record(c10::impl::VirtualGuardImpl(at::kCUDA).getStream(x.device()));
}

at::Tensor HostCopy::wait() {
  if (copied_) copied_->synchronize();
  return host_;
}

at::Tensor copy_to_device(const at::Tensor& x, c10::Device device) {
  if (x.device() == device) return x;
  const at::Tensor from = device.is_cuda() && x.is_cpu() ? x.pin_memory() : x;
  return from.to(device, /*non_blocking=*/x.is_cpu());
}

void wait_for(c10::Device device) {
  if (device.is_cpu()) return;
  c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
}

}  // namespace switchyard
