#pragma once

#include <cstdint>

#include "config/run_config.h"

namespace switchyard {

/// The factor of `optim.lr` at a step, counted from 1. All schedules warm up
/// linearly: step / warmup_steps until step = warmup_steps. Then, with
/// p = (step - warmup) / (steps - warmup) and m = min_lr_ratio:
///
///   constant      1
///   linear        1 - (1 - m) p
///   cosine        m + (1 - m) (1 + cos(pi p)) / 2
///   wsd           1 until the last `decay_fraction` of all steps, then linearly
///                 down to m (warmup, stable, decay: arXiv:2404.06395)
///   inverse_sqrt  sqrt(max(warmup, 1) / step), not below m
double schedule_factor(const ScheduleConfig& schedule, int64_t step, int64_t steps);

}  // namespace switchyard
