#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "ops/composed.h"

namespace switchyard::cuda {

// Kernels for CUDA tensors: each is what its namesake in ops/composed.h is, in one pass over
// memory, on the current stream. float32 and bfloat16, contiguous. A build without CUDA has
// no_cuda.cpp in their place: these tensors do not exist there.

/// Whether there are kernels for x. Other CUDA tensors (float64, of gradient checks) are composed.
inline bool has_kernels(const at::Tensor& x) {
  return x.is_cuda() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

/// Whether at::_grouped_mm is one kernel on the current device: bfloat16 on compute capability 9.0
/// and 10.0. Elsewhere LibTorch loops over the groups, and asks the device for their sizes.
bool has_grouped_mm();

at::Tensor copy_rows(const at::Tensor& x_TD, const at::Tensor& pair_S, int64_t K);
at::Tensor sum_slots(const at::Tensor& y_SD, const at::Tensor& slot_TK,
                     const at::Tensor& factors_TK);
CombineGradients combine_gradients(const at::Tensor& y_SD, const at::Tensor& weights_TK,
                                   const RowMap& map, const at::Tensor& dout_TD);

NormRows rms_norm(const at::Tensor& x_RD, const at::Tensor& weight, double eps);
NormGradients rms_norm_gradients(const at::Tensor& x_RD, const at::Tensor& weight,
                                 const at::Tensor& rstd_R, const at::Tensor& dy_RD);

at::Tensor rotate(const at::Tensor& x_BSNH, const at::Tensor& cos_SH, const at::Tensor& sin_SH,
                  double sign);

at::Tensor swiglu(const at::Tensor& h_R2F);
at::Tensor swiglu_gradient(const at::Tensor& h_R2F, const at::Tensor& dy_RF);

void adamw_update(const AdamWTensors& tensors, const AdamWFactors& factors);

SortedPairs sort_by_expert(const at::Tensor& experts_TK, const at::Tensor& kept_TK,
                           int64_t num_experts);

}  // namespace switchyard::cuda
