#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace switchyard {

double schedule_factor(const ScheduleConfig& schedule, int64_t step, int64_t steps) {
  const auto at = static_cast<double>(step), warmup = static_cast<double>(schedule.warmup_steps);
  const double floor = schedule.min_lr_ratio;
  if (at < warmup) return at / warmup;
  const auto end = static_cast<double>(steps);
  const double progress = end > warmup ? std::clamp((at - warmup) / (end - warmup), 0.0, 1.0) : 1.0;
  if (schedule.type == "constant") return 1.0;
  if (schedule.type == "linear") return 1.0 - (1.0 - floor) * progress;
  if (schedule.type == "cosine") {
    return floor + (1.0 - floor) * (1.0 + std::cos(std::numbers::pi * progress)) / 2.0;
  }
  if (schedule.type == "wsd") {
    const double decay_steps = std::max(1.0, std::round(schedule.decay_fraction * end));
    const double left = std::clamp((end - at) / decay_steps, 0.0, 1.0);
    return floor + (1.0 - floor) * left;
  }
  if (schedule.type == "inverse_sqrt")
    return std::max(floor, std::sqrt(std::max(warmup, 1.0) / at));
  throw ConfigError("optim.schedule.type: unknown word `" + schedule.type + "`");
}

}  // namespace switchyard
