#include "loss/device_balance.h"

#include <ATen/ATen.h>

namespace switchyard {

at::Tensor device_fractions(const at::Tensor& f_GE, int64_t devices) {
  TORCH_CHECK(f_GE.dim() == 2 && devices >= 1 && f_GE.size(1) % devices == 0,
              "device_fractions: f_GE ", f_GE.sizes(), ", devices ", devices);
  const at::Tensor f_GNM = f_GE.view({f_GE.size(0), devices, f_GE.size(1) / devices});
  return f_GNM.mean(/*dim=*/2, /*keepdim=*/true).expand_as(f_GNM).reshape(f_GE.sizes());
}

}  // namespace switchyard
