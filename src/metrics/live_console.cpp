#include "metrics/live_console.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>

#include "base/log.h"

namespace switchyard {
namespace {

/// Columns of the terminal, 80 where it does not say. One is left free: in the last one
/// some terminals go to the next line.
int64_t bar_width() {
  winsize size{};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return (known ? size.ws_col : 80) - 1;
}

}  // namespace

void LiveConsole::print(const std::string& line) {
  if (!bar_.empty()) set_status_line("");
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
  if (!bar_.empty()) set_status_line(bar_);
}

void LiveConsole::show(const StepProgress& progress) {
  if (style_.bar == ProgressBar::kOff) return;
  const Clock::time_point now = Clock::now();
  if (!bar_.empty() && now - shown_at_ < std::chrono::milliseconds(200)) return;
  bar_ = progress_bar(progress, bar_width());
  shown_at_ = now;
  set_status_line(bar_);
}

void LiveConsole::clear() {
  if (!bar_.empty()) set_status_line("");
  bar_.clear();
}

}  // namespace switchyard
