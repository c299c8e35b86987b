#include "checkpoint/device_pieces.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "ops/host_copy.h"

namespace switchyard {

void for_each_piece(const at::Tensor& x,
                    const std::function<void(const void* data, uint64_t bytes)>& visit) {
  TORCH_CHECK(x.is_contiguous(), "for_each_piece: a tensor of strides ", x.strides());
  if (x.numel() == 0) return;
  if (x.is_cpu()) {
    visit(x.data_ptr(), x.nbytes());
    return;
  }
  const at::Tensor flat = x.detach().view({-1});
  const int64_t step = kDevicePieceBytes / static_cast<int64_t>(x.element_size());
  const auto copy = [&](int64_t begin) {
    return HostCopy(flat.narrow(0, begin, std::min(step, flat.numel() - begin)));
  };
  HostCopy next = copy(0);
  for (int64_t begin = 0; begin < flat.numel(); begin += step) {
    const at::Tensor here = next.wait();
    if (begin + step < flat.numel()) next = copy(begin + step);
    visit(here.data_ptr(), here.nbytes());
  }
}

}  // namespace switchyard
