#pragma once

#include <ATen/record_function.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace switchyard {

/// Tells a step's time by its parts, on the thread that makes it:
///
///   PhaseClock clock;
///   for (...) { clock.start_step(); train_step(...); }
///   clock.finish();
///   clock.seconds();
///
/// A part is a Region (ops/region.h); a region inside another has its time to itself. Nodes of
/// the backward pass count as "backward of PART": the part in which forward made them, told by
/// their sequence numbers; an accumulation of gradients counts with the node that it follows.
class PhaseClock {
 public:
  /// Listens from here on, until `finish` or its end. One at a time on a thread.
  PhaseClock();
  ~PhaseClock();
  PhaseClock(const PhaseClock&) = delete;
  PhaseClock& operator=(const PhaseClock&) = delete;

  void start_step();
  void finish();

  /// Wall seconds by part, in the order of their first appearance; "other" is what was in none.
  /// They add up to the time from the first start_step to finish.
  const std::vector<std::pair<std::string, double>>& seconds() const { return seconds_; }

 private:
  using Clock = std::chrono::steady_clock;
  /// Sequence numbers of the nodes that a region made: [begin, end).
  struct Nodes {
    std::string part;
    uint64_t begin, end;
  };
  struct Open {
    std::string part;
    uint64_t begin;
  };

  static std::unique_ptr<at::ObserverContext> on_start(const at::RecordFunction& function);
  static void on_end(const at::RecordFunction& function, at::ObserverContext* context);

  void charge();
  std::string part_of_node(int64_t sequence_number);

  at::CallbackHandle handle_;
  bool listening_ = true, started_ = false;
  Clock::time_point since_;
  std::vector<Open> open_;
  std::vector<Nodes> nodes_;
  std::string last_of_backward_;
  std::vector<std::pair<std::string, double>> seconds_;
};

}  // namespace switchyard
