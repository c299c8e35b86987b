#pragma once

#include <chrono>

namespace switchyard {

/// Where the milliseconds of one optimizer step went on this rank. `comm_ms` is
/// the time spent waiting in collectives; those inside forward and backward are
/// counted there too, so the fields do not add up to the step.
struct PhaseTimes {
  double data_ms = 0;        // waiting for the next batch
  double forward_ms = 0;     // all micro-batches, losses included
  double backward_ms = 0;    // all micro-batches
  double comm_ms = 0;        // all-to-all, gradient reduction, weight gather
  double optimizer_ms = 0;   // clipping, update, weight gather
  double checkpoint_ms = 0;  // the part of a save that holds up training
};

/// Adds the wall time between its construction and its end to a field:
///
///   Span span(times.forward_ms);
///
/// A scope entered again adds again. The field must outlive the span.
class Span {
 public:
  explicit Span(double& total_ms) : total_ms_(total_ms), start_(Clock::now()) {}
  ~Span() { total_ms_ += std::chrono::duration<double, std::milli>(Clock::now() - start_).count(); }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  double& total_ms_;
  const Clock::time_point start_;
};

}  // namespace switchyard
