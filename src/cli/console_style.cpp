#include "cli/console_style.h"

#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace switchyard {
namespace {

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

ConsoleStyle console_style(const Runtime& runtime, const std::string& progress) {
  const bool dumb = environment("TERM") == "dumb";
  const bool terminal = !runtime.launched() && isatty(STDOUT_FILENO) != 0 && !dumb;
  const std::string_view force = environment("CLICOLOR_FORCE");
  const bool forced = !force.empty() && force != "0";
  const bool coloured = environment("NO_COLOR").empty() && (terminal || forced);
  const bool bar = progress == "auto" ? terminal && isatty(STDERR_FILENO) != 0 : progress == "on";
  return {coloured ? Colour::kOn : Colour::kOff, bar ? ProgressBar::kOn : ProgressBar::kOff};
}

}  // namespace switchyard
