#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace switchyard {

/// A device for tests, where there is no GPU: LibTorch's PrivateUse1, on memory of this host
/// that nothing but the device's own kernels can read: a loop of the CPU over a tensor of the
/// device ends the process with SIGSEGV instead of passing. Every operator that LibTorch has for
/// the CPU works on it, one after another in the order of the calls, and so does autograd.
///
/// It is as strict as CUDA, or stricter: operators take no mix of its tensors and host tensors
/// but for host scalars of no dimension, and new memory is not zero (it is all ones: NaN).
///
/// To have it, add host_device.cpp to the sources of a test.
c10::Device host_device();

/// What went between the host and the device since the start of the process. On a GPU each
/// copy to the host makes the host wait, but for those that code waits for on its own.
struct HostDeviceTraffic {
  int64_t to_host = 0;    // copies and .item(), and operators whose result's shape the host needs
  int64_t to_device = 0;  // copies
  int64_t waits_to_device = 0;  // of those, the ones that do not say non_blocking
};
HostDeviceTraffic host_device_traffic();

}  // namespace switchyard
