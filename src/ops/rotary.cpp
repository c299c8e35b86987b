#include "ops/rotary.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>

#include "ops/composed.h"
#include "ops/cuda/kernels.h"
#include "ops/dispatch_dtype.h"
#include "ops/vector_math.h"

namespace switchyard {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

enum class Turn { kForward, kBack };

template <class scalar_t>
void rotate(const Tensor& x_BSNH, const RotaryTable& table, Turn turn, Tensor& y_BSNH) {
  using sum_t = accumulate_t<scalar_t>;
  const int64_t S = x_BSNH.size(1), N = x_BSNH.size(2), H = x_BSNH.size(3),
                half = table.cos_SH.size(1);
  const float *cos = table.cos_SH.data_ptr<float>(), *sin = table.sin_SH.data_ptr<float>();
  const sum_t sign = turn == Turn::kForward ? 1 : -1;
  const scalar_t* x = x_BSNH.data_ptr<scalar_t>();
  scalar_t* y = y_BSNH.data_ptr<scalar_t>();
  at::parallel_for(0, x_BSNH.size(0) * S, 16, [&](int64_t begin, int64_t end) {
    for (int64_t position = begin; position < end; ++position) {
      const float *c = cos + position % S * half, *s = sin + position % S * half;
      for (int64_t n = 0; n < N; ++n) {
        const scalar_t* from = x + (position * N + n) * H;
        scalar_t* to = y + (position * N + n) * H;
#pragma omp simd
        for (int64_t i = 0; i < half; ++i) {
          const sum_t a = from[i], b = from[i + half], sine = sign * static_cast<sum_t>(s[i]);
          store_rounded(to + i, a * static_cast<sum_t>(c[i]) - b * sine);
          store_rounded(to + i + half, b * static_cast<sum_t>(c[i]) + a * sine);
        }
        std::copy(from + 2 * half, from + H, to + 2 * half);
      }
    }
  });
}

Tensor rotated(const Tensor& x_BSNH, const RotaryTable& table, Turn turn) {
  const double sign = turn == Turn::kForward ? 1 : -1;
  if (cuda::has_kernels(x_BSNH)) return cuda::rotate(x_BSNH, table.cos_SH, table.sin_SH, sign);
  if (!x_BSNH.is_cpu()) return composed::rotate(x_BSNH, table.cos_SH, table.sin_SH, sign);
  const Tensor x = x_BSNH.contiguous();
  Tensor y = at::empty_like(x);
  dispatch_dtype(x.scalar_type(), [&](auto zero) { rotate<decltype(zero)>(x, table, turn, y); });
  return y;
}

class Rotary : public torch::autograd::Function<Rotary> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x_BSNH, const Tensor& cos_SH,
                        const Tensor& sin_SH) {
    ctx->save_for_backward({cos_SH, sin_SH});
    return rotated(x_BSNH, {cos_SH, sin_SH}, Turn::kForward);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    return {rotated(grads[0], {saved[0], saved[1]}, Turn::kBack), Tensor(), Tensor()};
  }
};

/// What Llama 3.1 makes of the frequencies: waves longer than the positions of the first
/// training are stretched by the factor, short ones not, those between in part.
Tensor llama3_frequencies(const Tensor& frequency_H, const RopeScalingConfig& scaling) {
  const auto positions = static_cast<double>(scaling.original_max_position_embeddings);
  const Tensor waves_H = positions * frequency_H / (2 * M_PI);  // of them in those positions
  const Tensor kept_H =
      ((waves_H - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor))
          .clamp(0, 1);
  return frequency_H * (kept_H + (1 - kept_H) / scaling.factor);
}

}  // namespace

Tensor rotary_frequencies(const ModelConfig& model) {
  const auto rotated =
      static_cast<int64_t>(static_cast<double>(model.head_dim) * model.partial_rotary_factor);
  const Tensor exponent_H = at::arange(0, rotated, 2, at::kDouble) / static_cast<double>(rotated);
  const Tensor frequency_H = at::pow(model.rope_theta, -exponent_H);
  const RopeScalingConfig& scaling = model.rope_scaling;
  if (scaling.type == "linear") return frequency_H / scaling.factor;
  return scaling.type == "llama3" ? llama3_frequencies(frequency_H, scaling) : frequency_H;
}

RotaryTable rotary_table(int64_t first, int64_t count, const Tensor& frequencies_H) {
  const Tensor position_S = at::arange(first, first + count, frequencies_H.options());
  const Tensor angle_SH = at::outer(position_S, frequencies_H);
  return {angle_SH.cos().to(at::kFloat), angle_SH.sin().to(at::kFloat)};
}

Tensor apply_rotary(const Tensor& x_BSNH, const RotaryTable& table) {
  TORCH_CHECK(x_BSNH.dim() == 4 && x_BSNH.size(1) == table.cos_SH.size(0) &&
                  x_BSNH.size(3) >= 2 * table.cos_SH.size(1),
              "apply_rotary: x_BSNH ", x_BSNH.sizes(), ", table ", table.cos_SH.sizes());
  return Rotary::apply(x_BSNH, table.cos_SH, table.sin_SH);
}

}  // namespace switchyard
