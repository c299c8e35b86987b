#include "ops/composed.h"

#include <ATen/ATen.h>

// T tokens, K choices, S rows that are sent, R rows, D and F columns.

namespace switchyard::composed {
namespace {

using at::Tensor;

at::ScalarType sum_dtype(const Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

Tensor for_sums(const Tensor& x) { return x.to(sum_dtype(x)); }

/// x[index] (rows, ...), zero where the index is negative.
Tensor rows_or_zero(const Tensor& x, const Tensor& index) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape[0] = index.size(0);
  if (x.size(0) == 0) return at::zeros(shape, x.options());
  const Tensor rows = x.index_select(0, index.clamp_min(0));
  shape.assign(x.dim(), 1);
  shape[0] = index.size(0);
  return at::where((index >= 0).view(shape), rows, 0);
}

}  // namespace

Tensor copy_rows(const Tensor& x_TD, const Tensor& pair_S, int64_t K) {
  return rows_or_zero(x_TD, at::floor_divide(pair_S, K));
}

Tensor sum_slots(const Tensor& y_SD, const Tensor& slot_TK, const Tensor& factors_TK) {
  Tensor sum_TD = at::zeros({slot_TK.size(0), y_SD.size(1)}, y_SD.options().dtype(sum_dtype(y_SD)));
  for (int64_t k = 0; k < slot_TK.size(1); ++k) {
    const Tensor rows_TD = for_sums(rows_or_zero(y_SD, slot_TK.select(1, k)));
    if (factors_TK.defined()) {
      sum_TD.addcmul_(factors_TK.narrow(1, k, 1), rows_TD);
    } else {
      sum_TD.add_(rows_TD);
    }
  }
  return sum_TD.to(y_SD.scalar_type());
}

CombineGradients combine_gradients(const Tensor& y_SD, const Tensor& weights_TK, const RowMap& map,
                                   const Tensor& dout_TD) {
  const Tensor dout_SD = for_sums(copy_rows(dout_TD, map.pair_S, weights_TK.size(1)));
  const Tensor weight_S = rows_or_zero(weights_TK.flatten(), map.pair_S);
  const Tensor dot_S = (dout_SD * for_sums(y_SD)).sum(/*dim=*/1);
  return {(weight_S.unsqueeze(1) * dout_SD).to(y_SD.scalar_type()),
          rows_or_zero(dot_S, map.slot_TK.flatten()).view(weights_TK.sizes())};
}

NormRows rms_norm(const Tensor& x_RD, const Tensor& weight, double eps) {
  const Tensor x = for_sums(x_RD);
  const Tensor rstd_R = (x.square().mean(/*dim=*/1) + eps).rsqrt();
  return {(x * rstd_R.unsqueeze(1) * for_sums(weight)).to(x_RD.scalar_type()), rstd_R};
}

NormGradients rms_norm_gradients(const Tensor& x_RD, const Tensor& weight, const Tensor& rstd_R,
                                 const Tensor& dy_RD) {
  const Tensor rstd_R1 = rstd_R.unsqueeze(1), n_RD = for_sums(x_RD) * rstd_R1, dy = for_sums(dy_RD),
               g_RD = dy * for_sums(weight);
  const Tensor dot_R1 = (g_RD * n_RD).mean(/*dim=*/1, /*keepdim=*/true);
  return {(rstd_R1 * (g_RD - n_RD * dot_R1)).to(x_RD.scalar_type()),
          (dy * n_RD).sum(/*dim=*/0).to(weight.scalar_type())};
}

Tensor rotate(const Tensor& x_BSNH, const Tensor& cos_SH, const Tensor& sin_SH, double sign) {
  const int64_t S = x_BSNH.size(1), half = cos_SH.size(1), rest = x_BSNH.size(3) - 2 * half;
  const at::ScalarType dtype = x_BSNH.scalar_type();
  const Tensor c = cos_SH.view({S, 1, half}).to(sum_dtype(x_BSNH)),
               s = sin_SH.view({S, 1, half}).to(sum_dtype(x_BSNH)) * sign;
  const Tensor a = for_sums(x_BSNH.narrow(3, 0, half)), b = for_sums(x_BSNH.narrow(3, half, half));
  return at::cat(
      {(a * c - b * s).to(dtype), (b * c + a * s).to(dtype), x_BSNH.narrow(3, 2 * half, rest)},
      /*dim=*/3);
}

Tensor swiglu(const Tensor& h_R2F) {
  const auto halves = h_R2F.chunk(2, /*dim=*/-1);
  return at::silu(for_sums(halves[0])).mul_(for_sums(halves[1])).to(h_R2F.scalar_type());
}

Tensor swiglu_gradient(const Tensor& h_R2F, const Tensor& dy_RF) {
  const auto halves = h_R2F.chunk(2, /*dim=*/-1);
  const Tensor gate = for_sums(halves[0]), up = for_sums(halves[1]), dy = for_sums(dy_RF);
  return at::cat({at::silu_backward(dy * up, gate), dy * at::silu(gate)}, /*dim=*/-1)
      .to(h_R2F.scalar_type());
}

void adamw_update(const AdamWTensors& tensors, const AdamWFactors& f) {
  const Tensor gradient = tensors.gradient * f.gradient_scale;
  Tensor mean = tensors.exp_avg, square = tensors.exp_avg_sq, weight = tensors.weight,
         rounded = tensors.rounded;
  mean.mul_(f.beta1).add_(gradient, f.rest1);
  square.mul_(f.beta2).addcmul_(gradient, gradient, f.rest2);
  const Tensor denominator = square.sqrt().mul_(f.inverse_sqrt_correction2).add_(f.eps);
  weight.mul_(f.keep).addcdiv_(mean, denominator, -f.step_size);
  if (rounded.defined()) rounded.copy_(weight);
}

SortedPairs sort_by_expert(const Tensor& experts_TK, const Tensor& kept_TK, int64_t num_experts) {
  const Tensor key = at::where(kept_TK, experts_TK, num_experts).flatten();
  const auto [sorted, order] = at::sort(key, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  const Tensor begin = at::searchsorted(sorted, at::arange(num_experts + 1, key.options()));
  const Tensor place =
      at::empty_like(order).scatter_(0, order, at::arange(order.numel(), order.options()));
  return {order, at::where(kept_TK, place.view(kept_TK.sizes()), -1), begin.diff()};
}

}  // namespace switchyard::composed
