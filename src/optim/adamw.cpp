#include "optim/adamw.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>

namespace switchyard {
namespace {

/// The scalars of one update of one part. 1 - beta is taken in float64: in float32
/// it would be off by 1.3e-5 of itself for 0.999.
struct Factors {
  float gradient_scale, keep, beta1, rest1, beta2, rest2, step_size, inverse_sqrt_correction2, eps;
};

void update_interval(float* w, const float* g, float* m, float* v, int64_t count,
                     const Factors& f) {
  at::parallel_for(0, count, 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float gradient = g[i] * f.gradient_scale;
      m[i] = f.beta1 * m[i] + f.rest1 * gradient;
      v[i] = f.beta2 * v[i] + f.rest2 * gradient * gradient;
      const float denominator = std::sqrt(v[i]) * f.inverse_sqrt_correction2 + f.eps;
      w[i] = w[i] * f.keep - f.step_size * m[i] / denominator;
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
    float* weights = buffer.master.defined() ? buffer.master.data_ptr<float>() + in_state
                                             : buffer.weights.data_ptr<float>() + mine.begin;
    update_interval(weights,
                    buffer.gradients.data_ptr<float>() + (mine.begin - buffer.gradient.begin),
                    buffer.exp_avg.data_ptr<float>() + in_state,
                    buffer.exp_avg_sq.data_ptr<float>() + in_state, mine.size(), factors);
  }
}

}  // namespace switchyard
