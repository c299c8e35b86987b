#pragma once

#include <chrono>
#include <string>

#include "metrics/console.h"

namespace switchyard {

/// Whether a bar stays below the lines while a run trains: on a terminal only.
enum class ProgressBar { kOff, kOn };

struct ConsoleStyle {
  Colour colour = Colour::kOff;
  ProgressBar bar = ProgressBar::kOff;
};

/// Where a run's lines go: stdout. With a bar, stdout and stderr are one terminal, the
/// bar its last line (base/log.h keeps it there), taken away while a line is printed and at
/// the end; without, nothing but the lines is written.
class LiveConsole {
 public:
  explicit LiveConsole(ConsoleStyle style) : style_(style) {}
  ~LiveConsole() { clear(); }
  LiveConsole(const LiveConsole&) = delete;
  LiveConsole& operator=(const LiveConsole&) = delete;

  Colour colour() const { return style_.colour; }

  void print(const std::string& line);

  /// Moves the bar, at most five times a second.
  void show(const StepProgress& progress);

  /// Takes the bar away.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;

  ConsoleStyle style_;
  std::string bar_;  // that is there
  Clock::time_point shown_at_;
};

}  // namespace switchyard
