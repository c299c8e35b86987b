#pragma once

#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "metrics/health.h"
#include "metrics/jsonl.h"
#include "metrics/live_console.h"
#include "metrics/tensorboard.h"
#include "train/run_folder.h"
#include "train/session.h"
#include "train/train_step.h"

namespace switchyard {

/// What a run tells while it trains: per record a console line, a line of metrics.jsonl and
/// TensorBoard events, averaged over the steps since the last one; warnings, once each, of what
/// the records show.
class RunLog {
 public:
  /// peak_flops: this rank's rate of matrix products, for the MFU. `session` and `folder` must
  /// outlive it.
  RunLog(Session& session, const RunFolder& folder, double peak_flops, ConsoleStyle style)
      : session_(session), folder_(folder), peak_flops_(peak_flops), console_(style) {}

  /// Appends to the run's files from here on. On rank 0 alone.
  void open();

  /// Removes the records after `step` from what `open` has opened. Local.
  void cut_after(int64_t step);

  /// The times of one step of this rank. Local; rank 0 moves its bar.
  void add(const PhaseTimes& times);

  /// Milliseconds of this rank since the last record; Span may add to them.
  PhaseTimes& times() { return window_.times; }

  /// Time that does not count as training from its construction to its end.
  class Pause {
   public:
    explicit Pause(RunLog& log) : log_(log) {}
    ~Pause() { log_.window_.start += Clock::now() - start_; }
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    RunLog& log_;
    const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  };

  /// Records the step, of whose routing `census` tells, and begins a new window. Collective
  /// over the world.
  void record(const StepReport& report, const RoutingCensus& census);

  /// Records evaluations. Local: rank 0 writes.
  void record(const std::vector<EvalMetrics>& evaluations);

  /// Begins a new window.
  void restart() { window_ = Window{}; }

 private:
  using Clock = std::chrono::steady_clock;

  struct Window {
    Clock::time_point start = Clock::now();
    int64_t steps = 0;
    PhaseTimes times;
  };

  StepMetrics metrics_of(const StepReport& report);
  void compare_ranks(const at::Tensor& times_WT, StepMetrics& metrics);
  void record_histograms(const StepMetrics& metrics, const RoutingCensus& census);
  double elapsed_ms() const;

  Session& session_;
  const RunFolder& folder_;
  double peak_flops_;
  LiveConsole console_;
  Window window_;
  std::unique_ptr<JsonlWriter> jsonl_;              // rank 0
  std::unique_ptr<TensorBoardWriter> tensorboard_;  // rank 0, unless run.tensorboard is off
  int64_t next_histograms_ = 0;                     // step from which histograms are due
  Health health_;
  std::set<int64_t> slow_ranks_;  // that have been named
};

}  // namespace switchyard
