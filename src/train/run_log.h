#pragma once

#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "metrics/console.h"
#include "metrics/jsonl.h"
#include "train/session.h"
#include "train/train_step.h"

namespace switchyard {

/// What a run tells while it trains: a console line and a line of metrics.jsonl per record,
/// averaged over the steps since the last one, and, once each, which ranks are slow.
class RunLog {
 public:
  /// peak_flops: this rank's rate of matrix products, for the MFU. `session` must outlive it.
  RunLog(Session& session, const std::string& flight_dir, double peak_flops, Colour colour)
      : session_(session), flight_dir_(flight_dir), peak_flops_(peak_flops), colour_(colour) {}

  /// Appends to metrics.jsonl from here on. On rank 0 alone.
  void open(const std::string& metrics_path);

  /// Removes the records after `step` from what `open` has opened. Local.
  void cut_after(int64_t step);

  /// The times of one step of this rank. Local.
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

  /// Records the step and begins a new window. Collective over the world.
  void record(const StepReport& report);

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
  void warn_of_slow_ranks(const at::Tensor& times_WT);

  Session& session_;
  std::string flight_dir_;
  double peak_flops_;
  Colour colour_;
  Window window_;
  std::string metrics_path_;
  std::unique_ptr<JsonlWriter> jsonl_;  // rank 0
  std::set<int64_t> slow_ranks_;        // that have been named
};

}  // namespace switchyard
