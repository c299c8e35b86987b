#include "ops/adamw_update.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>

#include "ops/composed.h"
#include "ops/cuda/kernels.h"
#include "ops/vector_math.h"

namespace switchyard {
namespace {

/// `rounded`, if there is one, gets the new weights in its dtype.
template <class scalar_t>
void update_interval(float* w, const float* g, float* m, float* v, scalar_t* rounded, int64_t count,
                     const AdamWFactors& f) {
  at::parallel_for(0, count, 1 << 14, [&](int64_t begin, int64_t end) {
    const AdamWFactors local = f;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const float gradient = g[i] * local.gradient_scale;
      const float mean = local.beta1 * m[i] + local.rest1 * gradient;
      const float square = local.beta2 * v[i] + local.rest2 * gradient * gradient;
      m[i] = mean;
      v[i] = square;
      const float denominator = std::sqrt(square) * local.inverse_sqrt_correction2 + local.eps;
      const float updated = w[i] * local.keep - local.step_size * mean / denominator;
      w[i] = updated;
      if constexpr (!std::is_same_v<scalar_t, float>) store_rounded(rounded + i, updated);
    }
  });
}

void update_on_host(const AdamWTensors& tensors, const AdamWFactors& factors) {
  float *weight = tensors.weight.data_ptr<float>(), *mean = tensors.exp_avg.data_ptr<float>(),
        *square = tensors.exp_avg_sq.data_ptr<float>();
  const float* gradient = tensors.gradient.data_ptr<float>();
  const int64_t count = tensors.weight.numel();
  if (tensors.rounded.defined()) {
    update_interval(weight, gradient, mean, square, tensors.rounded.data_ptr<at::BFloat16>(), count,
                    factors);
  } else {
    update_interval<float>(weight, gradient, mean, square, nullptr, count, factors);
  }
}

}  // namespace

void adamw_update(const AdamWTensors& tensors, const AdamWFactors& factors) {
  if (tensors.weight.is_cpu()) return update_on_host(tensors, factors);
  return tensors.weight.is_cuda() ? cuda::adamw_update(tensors, factors)
                                  : composed::adamw_update(tensors, factors);
}

}  // namespace switchyard
