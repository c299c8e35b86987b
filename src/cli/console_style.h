#pragma once

#include <string>

#include "distributed/runtime.h"
#include "metrics/live_console.h"

namespace switchyard {

/// How a command that prints lines for long looks here. Colours where stdout is a terminal,
/// unless NO_COLOR is set (https://no-color.org); CLICOLOR_FORCE, set and not 0, wants them
/// anyway (https://bixense.com/clicolors). A bar where stdout and stderr are. Neither by
/// themselves below mpirun, which makes every rank's stdout look like a terminal.
///
///   progress  "auto"; "on" and "off" decide about the bar
ConsoleStyle console_style(const Runtime& runtime, const std::string& progress);

}  // namespace switchyard
