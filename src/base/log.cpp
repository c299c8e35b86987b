#include "base/log.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>

namespace switchyard {
namespace {

constexpr std::string_view kEraseLine = "\r\033[K";

std::atomic<int> log_rank{0};
std::mutex line_mutex;
std::string status_line;  // on the terminal now

/// What cannot be written has nowhere to complain.
void write_bytes(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(STDERR_FILENO, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

void write_line(const std::string& prefix, const std::string& message) {
  std::string line = prefix + printable(message) + '\n';
  const std::lock_guard<std::mutex> lock(line_mutex);
  if (!status_line.empty()) line = std::string(kEraseLine) + line + status_line;
  write_bytes(line);
}

}  // namespace

std::string printable(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out;
  for (const char byte : text) {
    const auto code = static_cast<unsigned char>(byte);
    if (byte == '\n' || byte == '\t' || (code >= 0x20 && code < 0x7f)) {
      out += byte;
    } else {
      out += {'\\', 'x', kHex[code >> 4], kHex[code & 15]};
    }
  }
  return out;
}

void set_log_rank(int rank) { log_rank = rank; }

void set_status_line(const std::string& text) {
  if (log_rank != 0) return;
  const std::lock_guard<std::mutex> lock(line_mutex);
  if (text.empty() && status_line.empty()) return;
  status_line = text;
  write_bytes(std::string(kEraseLine) + text);
}

void log_info(const std::string& message) {
  if (log_rank == 0) write_line("", message);
}

void log_warning(const std::string& message) {
  if (log_rank == 0) write_line("warning: ", message);
}

void log_every_rank(const std::string& message) {
  write_line("[rank " + std::to_string(log_rank) + "] ", message);
}

}  // namespace switchyard
