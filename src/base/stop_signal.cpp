#include "base/stop_signal.h"

#include <array>
#include <atomic>
#include <csignal>

namespace switchyard {
namespace {

constexpr std::array<int, 4> kStopSignals = {SIGUSR1, SIGUSR2, SIGTERM, SIGINT};

std::atomic<int> received{0};  // lock-free: a signal handler writes it
static_assert(std::atomic<int>::is_always_lock_free);

void remember(int signal) { received = signal; }

void set_handlers(void (*handler)(int)) {
  for (const int signal : kStopSignals) {
    struct sigaction action = {};
    action.sa_handler = handler;
    // Calls that wait go on; a second Ctrl-C meets the default action.
    action.sa_flags = SA_RESTART | (signal == SIGINT ? static_cast<int>(SA_RESETHAND) : 0);
    sigaction(signal, &action, nullptr);
  }
}

}  // namespace

void catch_stop_signals() { set_handlers(remember); }

int stop_signal() { return received; }

const char* stop_signal_name(int signal) {
  switch (signal) {
    case SIGUSR1:
      return "SIGUSR1";
    case SIGUSR2:
      return "SIGUSR2";
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    default:
      return "a signal";
  }
}

void restore_stop_signals() { set_handlers(SIG_DFL); }

void release_stop_signals() {
  restore_stop_signals();
  if (received != 0) std::raise(received);
}

}  // namespace switchyard
