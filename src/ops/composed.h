#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "ops/adamw_update.h"
#include "ops/sort_by_expert.h"

namespace switchyard {

struct CombineGradients {
  at::Tensor dy_SD, dweights_TK;
};
struct NormRows {
  at::Tensor y_RD, rstd_R;  // rstd in the dtype of sums
};
struct NormGradients {
  at::Tensor dx_RD, dweight;
};

/// The arithmetic of this folder's ops out of LibTorch's, for tensors of any device: what a device
/// without kernels of its own computes with, and what kernels (cuda/kernels.h) are compared with.
/// Each is one direction of an op, whose own header says what it is; without autograd.
///
/// Sums and products of bfloat16 in float32, one rounding at the end; each result is repeatable to
/// the bit: nothing is summed in an order that is left to chance. The host waits for nothing.
namespace composed {

// permute.h

/// out[s] = x[pair[s] / K], zero where pair[s] is -1.
at::Tensor copy_rows(const at::Tensor& x_TD, const at::Tensor& pair_S, int64_t K);
/// out[t] = sum over k, ascending, of factors[t, k] * y[slot[t, k]]; undefined factors: 1.
at::Tensor sum_slots(const at::Tensor& y_SD, const at::Tensor& slot_TK,
                     const at::Tensor& factors_TK);
/// dy[s] = w * dout[t] and dw[t, k] = <dout[t], y[s]> for the pair in row s.
CombineGradients combine_gradients(const at::Tensor& y_SD, const at::Tensor& weights_TK,
                                   const RowMap& map, const at::Tensor& dout_TD);

// rms_norm.h

NormRows rms_norm(const at::Tensor& x_RD, const at::Tensor& weight, double eps);
NormGradients rms_norm_gradients(const at::Tensor& x_RD, const at::Tensor& weight,
                                 const at::Tensor& rstd_R, const at::Tensor& dy_RD);

/// rotary.h. x_BSNH may be a part of wider rows; the result is contiguous. `sign` -1 turns back.
at::Tensor rotate(const at::Tensor& x_BSNH, const at::Tensor& cos_SH, const at::Tensor& sin_SH,
                  double sign);

// activation.h, swiglu

at::Tensor swiglu(const at::Tensor& h_R2F);
at::Tensor swiglu_gradient(const at::Tensor& h_R2F, const at::Tensor& dy_RF);

void adamw_update(const AdamWTensors& tensors, const AdamWFactors& factors);

SortedPairs sort_by_expert(const at::Tensor& experts_TK, const at::Tensor& kept_TK,
                           int64_t num_experts);

}  // namespace composed
}  // namespace switchyard
