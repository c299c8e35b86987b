#include "optim/adamw.h"

#include <ATen/ATen.h>

#include <cmath>
#include <vector>

#include "ops/adamw_update.h"

namespace switchyard {
namespace {

/// Elements of a buffer that get one update.
struct Run {
  ParameterKind kind;
  UpdateRule rule;
  Interval range;

  bool goes_on_with(const PlacedPart& placed) const {
    return range.end == placed.range.begin && rule.lr_scale == placed.rule.lr_scale &&
           rule.decay == placed.rule.decay && rule.frozen == placed.rule.frozen;
  }
};

/// The store's parts, neighbours in a buffer together: the experts of a model are one, not one
/// update for each matrix.
std::vector<Run> runs_of(const ParameterStore& store) {
  std::vector<Run> runs;
  for (const ParameterKind kind : {ParameterKind::kDense, ParameterKind::kExpert}) {
    const size_t first = runs.size();
    for (const PlacedPart& placed : store.parts()) {
      if (placed.kind != kind) continue;
      if (runs.size() > first && runs.back().goes_on_with(placed)) {
        runs.back().range.end = placed.range.end;
      } else {
        runs.push_back({kind, placed.rule, placed.range});
      }
    }
  }
  return runs;
}

}  // namespace

void AdamW::update(ParameterStore& store, int64_t step, double lr, double gradient_scale) const {
  const double correction1 = 1 - std::pow(beta1, step), correction2 = 1 - std::pow(beta2, step);
  for (const Run& run : runs_of(store)) {
    if (run.rule.frozen) continue;
    ParameterStore::Buffer& buffer = store.buffer(run.kind);
    const Interval mine = intersect(run.range, buffer.state);
    if (mine.empty()) continue;
    const double part_lr = lr * run.rule.lr_scale;
    const AdamWFactors factors{
        static_cast<float>(gradient_scale),
        static_cast<float>(1 - part_lr * (run.rule.decay ? weight_decay : 0.0)),
        static_cast<float>(beta1),
        static_cast<float>(1 - beta1),
        static_cast<float>(beta2),
        static_cast<float>(1 - beta2),
        static_cast<float>(part_lr / correction1),
        static_cast<float>(1 / std::sqrt(correction2)),
        static_cast<float>(eps)};
    const auto of_state = [&](const at::Tensor& x) {
      return x.narrow(0, mine.begin - buffer.state.begin, mine.size());
    };
    const at::Tensor weights = buffer.weights.narrow(0, mine.begin, mine.size());
    const bool has_master = buffer.master.defined();
    adamw_update({has_master ? of_state(buffer.master) : weights,
                  buffer.gradients.narrow(0, mine.begin - buffer.gradient.begin, mine.size()),
                  of_state(buffer.exp_avg), of_state(buffer.exp_avg_sq),
                  has_master ? weights : at::Tensor()},
                 factors);
  }
}

}  // namespace switchyard
