#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>

#include <optional>

namespace switchyard {

/// A copy of a tensor to the host that is under way while the host goes on:
///
///   HostCopy counts(rows_E);   // begins behind what is enqueued so far
///   ...                        // enqueues more
///   counts.wait()              // the host waits for the copy, not for the rest
///
/// Of a tensor on the host it is that tensor. From a GPU it goes to pinned memory, on the stream
/// that is current, and an event tells its end. From any other device it is done at once.
class HostCopy {
 public:
  explicit HostCopy(const at::Tensor& x);

  /// The copy, contiguous, on the host.
  at::Tensor wait();

 private:
  at::Tensor host_;
  std::optional<c10::Event> copied_;
};

/// A host tensor on `device`, without the host waiting for the device: through pinned memory to a
/// GPU. A tensor that is there already stays itself.
at::Tensor copy_to_device(const at::Tensor& x, c10::Device device);

/// Returns once what was enqueued on `device` is done. Of the host it always is.
void wait_for(c10::Device device);

}  // namespace switchyard
