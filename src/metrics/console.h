#pragma once

#include <cstdint>
#include <string>

#include "metrics/step_metrics.h"

namespace switchyard {

/// ANSI colours, for a terminal only: the loss in bold, dropped tokens, skipped
/// steps and non-finite numbers in red.
enum class Colour { kOff, kOn };

/// The line a run prints per logged step, without a newline:
///
///   step 120/1000 | loss 3.2145 | aux 1.01 z 0.42 | norm 0.87 | lr 3.0e-04 |
///   214 ms | 9,570 tok/s | mfu 31% | mem 1.2 GiB | load 1.18 drop 0.0% | eta 3m08s
///
/// A loss or norm that stands out has its distance from the last steps' behind it, in
/// standard deviations: "loss 4.2145 (+6.2z)"; see kMarkedZ.
///
/// `load` is that of the worst MoE layer, `drop` the mean over MoE layers; a
/// dense model has neither, and no `aux` and `z`. `mfu` is left out where the
/// peak is not known, `skipped N` is added once a step has been skipped. `eta`
/// is step_ms times the steps that remain.
inline constexpr double kMarkedZ = 4;  // |z| from which it is said
std::string step_line(const StepMetrics& metrics, int64_t total_steps, Colour colour);

/// The line of an evaluation; `bits/byte` only where the data knows its bytes:
///
///   eval val 100/400 | loss 3.1021 | ppl 22.24 | bits/byte 1.9210
std::string eval_line(const EvalMetrics& metrics, int64_t total_steps, Colour colour);

/// Where a run stands while it trains.
struct StepProgress {
  int64_t step = 0, total_steps = 0;
  double step_ms = 0;  // so far, per step
};

/// The bar of a run, cut to `width` columns:
///
///   [=======>             ]  35% | step 140/400 | 214 ms | eta 55s
std::string progress_bar(const StepProgress& progress, int64_t width);

/// 9570 -> "9,570".
std::string grouped(int64_t number);

/// 188 -> "3m08s"; at most two units, from seconds to days; "-" if not finite.
std::string duration_text(double seconds);

/// 1288490188 -> "1.2 GiB"; bytes below 1 KiB as a whole number.
std::string bytes_text(int64_t bytes);

}  // namespace switchyard
