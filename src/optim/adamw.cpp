#include "optim/adamw.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>

#include "ops/vector_math.h"

namespace switchyard {
namespace {

/// The scalars of one update of one part. 1 - beta is taken in float64: in float32
/// it would be off by 1.3e-5 of itself for 0.999.
struct Factors {
  float gradient_scale, keep, beta1, rest1, beta2, rest2, step_size, inverse_sqrt_correction2, eps;
};

/// `rounded`, if there is one, gets the new weights in its dtype.
template <class scalar_t>
void update_interval(float* w, const float* g, float* m, float* v, scalar_t* rounded, int64_t count,
                     const Factors& f) {
  at::parallel_for(0, count, 1 << 14, [&](int64_t begin, int64_t end) {
    const Factors local = f;
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

}  // namespace

void AdamW::update(ParameterStore& store, int64_t step, double lr, double gradient_scale) const {
  const double correction1 = 1 - std::pow(beta1, step), correction2 = 1 - std::pow(beta2, step);
  for (const PlacedPart& placed : store.parts()) {
    if (placed.rule.frozen) continue;
    ParameterStore::Buffer& buffer = store.buffer(placed.kind);
    const Interval mine = intersect(placed.range, buffer.state);
    if (mine.empty()) continue;
    const double part_lr = lr * placed.rule.lr_scale;
    const Factors factors{
        static_cast<float>(gradient_scale),
        static_cast<float>(1 - part_lr * (placed.rule.decay ? weight_decay : 0.0)),
        static_cast<float>(beta1),
        static_cast<float>(1 - beta1),
        static_cast<float>(beta2),
        static_cast<float>(1 - beta2),
        static_cast<float>(part_lr / correction1),
        static_cast<float>(1 / std::sqrt(correction2)),
        static_cast<float>(eps)};
    const int64_t in_state = mine.begin - buffer.state.begin;
    const float* gradients =
        buffer.gradients.data_ptr<float>() + (mine.begin - buffer.gradient.begin);
    float* exp_avg = buffer.exp_avg.data_ptr<float>() + in_state;
    float* exp_avg_sq = buffer.exp_avg_sq.data_ptr<float>() + in_state;
    if (buffer.master.defined()) {
      update_interval(buffer.master.data_ptr<float>() + in_state, gradients, exp_avg, exp_avg_sq,
                      buffer.weights.data_ptr<at::BFloat16>() + mine.begin, mine.size(), factors);
    } else {
      update_interval<float>(buffer.weights.data_ptr<float>() + mine.begin, gradients, exp_avg,
                             exp_avg_sq, nullptr, mine.size(), factors);
    }
  }
}

}  // namespace switchyard
