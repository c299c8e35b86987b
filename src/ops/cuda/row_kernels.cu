#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <initializer_list>

#include "ops/cuda/kernels.h"
#include "ops/cuda/row_kernels.cuh"

namespace switchyard::cuda {
namespace {

using at::Tensor;

const dim3 kBlock(kWarp, kRowsPerBlock);
constexpr int kThreads = 256;  // of blocks of one dimension

unsigned pieces(int64_t count, int64_t size) {
  return static_cast<unsigned>((count + size - 1) / size);
}

template <int value>
struct Width {
  static constexpr int width = value;
};

/// Calls body(scalar_t{}, Width<w>{}) with the widest loads that suit rows of D columns.
template <class Body>
void dispatch(int64_t D, std::initializer_list<Tensor> tensors, const Body& body) {
  const Tensor& first = *tensors.begin();
  const int64_t wide = 16 / static_cast<int64_t>(first.element_size());
  bool aligned = D % wide == 0;
  for (const Tensor& x : tensors) {
    aligned &= reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0;
  }
  if (first.scalar_type() == at::kFloat) {
    return aligned ? body(float{}, Width<4>{}) : body(float{}, Width<1>{});
  }
  TORCH_CHECK(first.scalar_type() == at::kBFloat16, "no kernel for ", first.dtype());
  return aligned ? body(c10::BFloat16{}, Width<8>{}) : body(c10::BFloat16{}, Width<1>{});
}

template <class scalar_t>
scalar_t* data(const Tensor& x) {
  return static_cast<scalar_t*>(x.mutable_data_ptr());
}

template <class scalar_t>
const scalar_t* read(const Tensor& x) {
  return static_cast<const scalar_t*>(x.const_data_ptr());
}

cudaStream_t stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

}  // namespace

Tensor copy_rows(const Tensor& x_TD, const Tensor& pair_S, int64_t K) {
  const c10::cuda::CUDAGuard guard(x_TD.device());
  const int64_t S = pair_S.size(0), D = x_TD.size(1);
  const Tensor out_SD = at::empty({S, D}, x_TD.options());
  if (out_SD.numel() == 0) return out_SD;
  dispatch(D, {x_TD, out_SD}, [&](auto zero, auto w) {
    using scalar_t = decltype(zero);
    copy_rows_kernel<scalar_t, decltype(w)::width>
        <<<pieces(S, kRowsPerBlock), kBlock, 0, stream()>>>(
            read<scalar_t>(x_TD), read<int64_t>(pair_S), S, K, D, data<scalar_t>(out_SD));
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out_SD;
}

Tensor sum_slots(const Tensor& y_SD, const Tensor& slot_TK, const Tensor& factors_TK) {
  const c10::cuda::CUDAGuard guard(y_SD.device());
  const int64_t T = slot_TK.size(0), K = slot_TK.size(1), D = y_SD.size(1);
  const Tensor out_TD = at::empty({T, D}, y_SD.options());
  if (out_TD.numel() == 0) return out_TD;
  const float* factors = factors_TK.defined() ? read<float>(factors_TK) : nullptr;
  dispatch(D, {y_SD, out_TD}, [&](auto zero, auto w) {
    using scalar_t = decltype(zero);
    sum_slots_kernel<scalar_t, decltype(w)::width>
        <<<pieces(T, kRowsPerBlock), kBlock, 0, stream()>>>(
            read<scalar_t>(y_SD), read<int64_t>(slot_TK), factors, T, K, D, data<scalar_t>(out_TD));
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out_TD;
}

CombineGradients combine_gradients(const Tensor& y_SD, const Tensor& weights_TK, const RowMap& map,
                                   const Tensor& dout_TD) {
  const c10::cuda::CUDAGuard guard(y_SD.device());
  const int64_t S = y_SD.size(0), K = weights_TK.size(1), D = y_SD.size(1);
  CombineGradients out{at::empty_like(y_SD), at::zeros_like(weights_TK)};
  if (S == 0) return out;
  dispatch(D, {y_SD, dout_TD, out.dy_SD}, [&](auto zero, auto w) {
    using scalar_t = decltype(zero);
    combine_gradients_kernel<scalar_t, decltype(w)::width>
        <<<pieces(S, kRowsPerBlock), kBlock, 0, stream()>>>(
            read<scalar_t>(y_SD), read<float>(weights_TK), read<int64_t>(map.pair_S),
            read<scalar_t>(dout_TD), S, K, D, data<scalar_t>(out.dy_SD),
            data<float>(out.dweights_TK));
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

NormRows rms_norm(const Tensor& x_RD, const Tensor& weight, double eps) {
  const c10::cuda::CUDAGuard guard(x_RD.device());
  const int64_t R = x_RD.size(0), D = x_RD.size(1);
  NormRows out{at::empty_like(x_RD), at::empty({R}, x_RD.options().dtype(at::kFloat))};
  if (out.y_RD.numel() == 0) return out;
  dispatch(D, {x_RD, weight, out.y_RD}, [&](auto zero, auto w) {
    using scalar_t = decltype(zero);
    rms_norm_kernel<scalar_t, decltype(w)::width>
        <<<pieces(R, kRowsPerBlock), kBlock, 0, stream()>>>(
            read<scalar_t>(x_RD), read<scalar_t>(weight), static_cast<float>(eps), R, D,
            data<scalar_t>(out.y_RD), data<float>(out.rstd_R));
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

NormGradients rms_norm_gradients(const Tensor& x_RD, const Tensor& weight, const Tensor& rstd_R,
                                 const Tensor& dy_RD) {
  const c10::cuda::CUDAGuard guard(x_RD.device());
  const int64_t R = x_RD.size(0), D = x_RD.size(1);
  const Tensor dx_RD = at::empty_like(x_RD);
  if (dx_RD.numel() == 0) return {dx_RD, at::zeros_like(weight)};
  const unsigned P = pieces(R, kRowsPerPiece);
  const Tensor partial_PD = at::empty({P, D}, rstd_R.options());
  dispatch(D, {x_RD, weight, dy_RD, dx_RD}, [&](auto zero, auto w) {
    using scalar_t = decltype(zero);
    rms_norm_gradient_kernel<scalar_t, decltype(w)::width>
        <<<pieces(R, kRowsPerBlock), kBlock, 0, stream()>>>(
            read<scalar_t>(x_RD), read<scalar_t>(weight), read<float>(rstd_R),
            read<scalar_t>(dy_RD), R, D, data<scalar_t>(dx_RD));
    rms_norm_weight_kernel<scalar_t><<<dim3(pieces(D, kThreads), P), kThreads, 0, stream()>>>(
        read<scalar_t>(x_RD), read<float>(rstd_R), read<scalar_t>(dy_RD), R, D,
        data<float>(partial_PD));
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {dx_RD, partial_PD.sum(/*dim=*/0).to(weight.scalar_type())};
}

Tensor rotate(const Tensor& x_BSNH, const Tensor& cos_SH, const Tensor& sin_SH, double sign) {
  const c10::cuda::CUDAGuard guard(x_BSNH.device());
  const Tensor x = x_BSNH.stride(3) == 1 ? x_BSNH : x_BSNH.contiguous();
  const int64_t B = x.size(0), S = x.size(1);
  const Tensor y = at::empty(x.sizes(), x.options());
  if (y.numel() == 0) return y;
  const HeadStrides strides{x.stride(0), x.stride(1), x.stride(2)};
  dispatch(/*D=*/1, {x}, [&](auto zero, auto) {
    using scalar_t = decltype(zero);
    rotate_kernel<scalar_t><<<pieces(B * S, kRowsPerBlock), kBlock, 0, stream()>>>(
        read<scalar_t>(x), strides, read<float>(cos_SH), read<float>(sin_SH),
        static_cast<float>(sign), B, S, static_cast<int>(x.size(2)), static_cast<int>(x.size(3)),
        static_cast<int>(cos_SH.size(1)), data<scalar_t>(y));
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return y;
}

Tensor swiglu(const Tensor& h_R2F) {
  const c10::cuda::CUDAGuard guard(h_R2F.device());
  std::vector<int64_t> shape = h_R2F.sizes().vec();
  shape.back() /= 2;
  const Tensor y_RF = at::empty(shape, h_R2F.options());
  if (y_RF.numel() == 0) return y_RF;
  const int64_t F = shape.back(), R = y_RF.numel() / F;
  dispatch(F, {h_R2F, y_RF}, [&](auto zero, auto w) {
    using scalar_t = decltype(zero);
    swiglu_kernel<scalar_t, decltype(w)::width><<<pieces(R, kRowsPerBlock), kBlock, 0, stream()>>>(
        read<scalar_t>(h_R2F), R, F, data<scalar_t>(y_RF));
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return y_RF;
}

Tensor swiglu_gradient(const Tensor& h_R2F, const Tensor& dy_RF) {
  const c10::cuda::CUDAGuard guard(h_R2F.device());
  const Tensor dh_R2F = at::empty_like(h_R2F);
  if (dh_R2F.numel() == 0) return dh_R2F;
  const int64_t F = dy_RF.size(-1), R = dy_RF.numel() / F;
  dispatch(F, {h_R2F, dy_RF, dh_R2F}, [&](auto zero, auto w) {
    using scalar_t = decltype(zero);
    swiglu_gradient_kernel<scalar_t, decltype(w)::width>
        <<<pieces(R, kRowsPerBlock), kBlock, 0, stream()>>>(
            read<scalar_t>(h_R2F), read<scalar_t>(dy_RF), R, F, data<scalar_t>(dh_R2F));
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return dh_R2F;
}

void adamw_update(const AdamWTensors& tensors, const AdamWFactors& factors) {
  const c10::cuda::CUDAGuard guard(tensors.weight.device());
  const int64_t count = tensors.weight.numel();
  if (count == 0) return;
  auto* rounded = tensors.rounded.defined() ? data<c10::BFloat16>(tensors.rounded) : nullptr;
  adamw_kernel<<<pieces(count, kThreads), kThreads, 0, stream()>>>(
      factors, read<float>(tensors.gradient), count, data<float>(tensors.weight),
      data<float>(tensors.exp_avg), data<float>(tensors.exp_avg_sq), rounded);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace switchyard::cuda
