#pragma once

#include <string>
#include <string_view>

namespace switchyard {

// Messages to people, on stderr; stdout belongs to results. A message goes out
// whole, so lines of threads and ranks do not mix; bytes outside printable ASCII
// are written as \xNN, so a file's name cannot play with a terminal. Any thread
// may call.

/// The text with every byte but printable ASCII, newline and tab as \xNN.
std::string printable(std::string_view text);

/// This process's rank in the world: 0 until it is told.
void set_log_rank(int rank);

/// A line that stays below all messages on rank 0's terminal, and is written anew whenever
/// it changes or a message has gone out above it; "" takes it away. Raw bytes: it may hold
/// colours, and must fit the terminal's width. Whoever writes to the same terminal by
/// other means takes it away for that long.
void set_status_line(const std::string& text);

/// On rank 0 only.
void log_info(const std::string& message);

/// On rank 0 only: "warning: message".
void log_warning(const std::string& message);

/// On every rank: "[rank 3] message".
void log_every_rank(const std::string& message);

}  // namespace switchyard
