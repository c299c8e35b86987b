// The failpoint() of programs under test. SWITCHYARD_FAILPOINTS holds
//
//   name[#hit][@rank]=action;...
//
//   hit      the how-manieth time on that rank; 1 when left out, * for every time
//   action   kill (SIGKILL), segv, abort, exit(N), throw, bad_alloc, stop (SIGSTOP),
//            spin, sleep(MS), term (SIGTERM), wrong (failpoint returns true)

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>

#include "base/failpoint.h"

namespace switchyard {
namespace {

struct Armed {
  std::string name, verb;
  int number = 0;  // of exit and sleep
  int hit = 1;     // 0: every time
  std::atomic<int> passed{0};
};

int own_rank() {
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  return rank == nullptr ? 0 : std::atoi(rank);
}

bool is_verb(const std::string& verb) {
  for (const char* known : {"kill", "segv", "abort", "exit", "throw", "bad_alloc", "stop", "spin",
                            "sleep", "term", "wrong"}) {
    if (verb == known) return true;
  }
  return false;
}

/// Cuts `text` at the last `separator`; returns what is behind it, "" without one.
std::string cut(std::string& text, char separator) {
  const size_t at = text.rfind(separator);
  if (at == std::string::npos) return "";
  std::string behind = text.substr(at + 1);
  text.resize(at);
  return behind;
}

void arm(std::string text, std::deque<Armed>& points) {
  std::string action = cut(text, '=');
  const std::string rank = cut(text, '@');
  const std::string hit = cut(text, '#');
  const std::string number = cut(action, '(');
  if (text.empty() || !is_verb(action)) throw std::invalid_argument("not name=action");
  if (!rank.empty() && std::stoi(rank) != own_rank()) return;
  Armed& point = points.emplace_back();
  point.name = text;
  point.verb = action;
  if (!number.empty()) point.number = std::stoi(number);
  if (!hit.empty()) point.hit = hit == "*" ? 0 : std::stoi(hit);
}

std::deque<Armed>& armed() {
  static std::deque<Armed>& points = *[] {
    auto* made = new std::deque<Armed>;
    const char* text = std::getenv("SWITCHYARD_FAILPOINTS");
    std::istringstream entries(text == nullptr ? "" : text);
    for (std::string entry; std::getline(entries, entry, ';');) {
      try {
        if (!entry.empty()) arm(entry, *made);
      } catch (const std::exception& error) {
        fprintf(stderr, "SWITCHYARD_FAILPOINTS: \"%s\": %s\n", entry.c_str(), error.what());
        std::abort();
      }
    }
    return made;
  }();
  return points;
}

void send_self(int signal) { ::kill(::getpid(), signal); }

/// The processor's own fault; `volatile` twice, so that the compiler sees none.
void write_to_nowhere() {
  volatile int* volatile nowhere = nullptr;
  *nowhere = 1;
}

[[noreturn]] void spin() {
  for (std::atomic<int> turns{0};;) ++turns;
}

bool perform(const Armed& point) {
  const std::string& verb = point.verb;
  if (verb == "kill") send_self(SIGKILL);
  if (verb == "segv") write_to_nowhere();
  if (verb == "abort") std::abort();
  if (verb == "exit") std::exit(point.number);
  if (verb == "throw") throw std::runtime_error("failpoint " + point.name);
  if (verb == "bad_alloc") throw std::bad_alloc();
  if (verb == "stop") send_self(SIGSTOP);
  if (verb == "spin") spin();
  if (verb == "sleep") std::this_thread::sleep_for(std::chrono::milliseconds(point.number));
  if (verb == "term") send_self(SIGTERM);
  return verb == "wrong";
}

}  // namespace

bool failpoint(const char* name) {
  bool wrong = false;
  for (Armed& point : armed()) {
    if (point.name != name) continue;
    const int pass = ++point.passed;
    if (point.hit == 0 || point.hit == pass) wrong |= perform(point);
  }
  return wrong;
}

}  // namespace switchyard
