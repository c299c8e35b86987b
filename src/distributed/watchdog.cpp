#include "distributed/watchdog.h"

#include <mpi.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <future>
#include <optional>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"

namespace switchyard {
namespace {

constexpr double kLookSeconds = 0.1;
constexpr double kGraceSeconds = 1.0;
constexpr int kDaemonSeconds = 5;

/// One line, past stderr's lock, which a hung thread may hold.
void tell(const std::string& line) {
  ::dprintf(STDERR_FILENO, "switchyard: %s\n", printable(line).c_str());
}

/// Of a process of this host.
ProcessState process_state(int64_t pid) {
  if (::kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH) return ProcessState::kGone;
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(stat, line);
  const size_t name_end = line.rfind(") ");  // "pid (name) state ..."
  if (name_end == std::string::npos || name_end + 2 >= line.size()) return ProcessState::kGone;
  switch (line[name_end + 2]) {
    case 'T':
    case 't':
      return ProcessState::kStopped;
    case 'Z':
    case 'X':
      return ProcessState::kGone;
    default:
      return ProcessState::kRunning;
  }
}

std::optional<RankState> read_state(const std::string& folder, int rank) {
  if (folder.empty()) return std::nullopt;
  try {
    return parse_flight_record(read_file(record_path(folder, rank)));
  } catch (const DataError&) {
    return std::nullopt;
  }
}

}  // namespace

Watchdog::Watchdog(FlightRecord& record, Communicator& world, Limits limits,
                   std::vector<Communicator*> groups)
    : record_(record),
      rank_(world.rank()),
      limits_(limits),
      groups_(std::move(groups)),
      launcher_(::getppid()) {
  const RankState mine = own_state();
  const auto texts =
      all_gather_text(world, std::to_string(mine.pid) + " " + mine.host, "hosts of the ranks");
  for (int rank = 0; rank < world.size(); ++rank) {
    std::istringstream words(texts[rank]);
    Peer peer{.rank = rank};
    std::string host;
    words >> peer.pid >> host;
    peer.here = host == mine.host && process_state(peer.pid) != ProcessState::kGone;
    peers_.push_back(peer);
  }
  world.barrier("all ranks know each other");  // none leaves before all have looked
  // Signals are for the main thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { watch(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  thread_.join();
}

/// Returns false as soon as the watchdog is stopped.
bool Watchdog::wait(double seconds) {
  std::unique_lock<std::mutex> lock(mutex_);
  return !stop_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return stopping_; });
}

void Watchdog::watch() {
  using Clock = std::chrono::steady_clock;
  Clock::time_point last = Clock::now();
  while (wait(kLookSeconds)) {
    const Clock::time_point now = Clock::now();
    const double seconds = std::chrono::duration<double>(now - last).count();
    last = now;
    look_at_launcher();
    look_at_peers();
    look_at_progress(std::min(seconds, 5 * kLookSeconds));
  }
}

void Watchdog::look_at_launcher() {
  if (::getppid() == launcher_) return;
  tell("rank " + std::to_string(rank_) + ": its launcher is gone" + record_.where());
  ::_Exit(kExitWatchdog);
}

void Watchdog::look_at_peers() {
  for (Peer& peer : peers_) {
    if (!peer.here || peer.rank == rank_) continue;
    if (process_state(peer.pid) != ProcessState::kGone) continue;
    // The launcher may be ending all ranks: then this one does not see a second look.
    if (!std::exchange(peer.missed, true)) continue;
    peer.here = false;
    const auto state = read_state(record_.folder(), peer.rank);
    if (state && state->status != RankStatus::kRunning) continue;
    if (job_is_ending()) return;
    if (lowest_living_rank() == rank_) {
      const std::string who =
          state ? describe(*state, WallClock::now())
                : "rank " + std::to_string(peer.rank) + " (pid " + std::to_string(peer.pid) + ")";
      tell(who + ": its process is gone" + way_out(own_state().checkpoint));
      end_job();
    }
  }
}

void Watchdog::look_at_progress(double seconds) {
  const uint64_t changes = record_.changes();
  idle_seconds_ = changes == seen_changes_ ? idle_seconds_ + seconds : 0;
  seen_changes_ = changes;
  const int64_t limit_seconds = limit();
  if (limit_seconds > 0 && idle_seconds_ >= static_cast<double>(limit_seconds)) end_hang();
}

int64_t Watchdog::limit() const {
  const std::string_view phase = record_.phase();
  return phase == "save" || phase == "load" ? limits_.save_timeout_seconds
                                            : limits_.timeout_seconds;
}

RankState Watchdog::own_state() const { return parse_flight_record(record_.text()); }

/// Whether a rank has told why and ends the job.
bool Watchdog::job_is_ending() const {
  return std::ranges::any_of(peers_, [&](const Peer& peer) {
    const auto state = read_state(record_.folder(), peer.rank);
    return state && state->status == RankStatus::kEnding;
  });
}

std::vector<SeenRank> Watchdog::seen_ranks() const {
  std::vector<SeenRank> seen;
  for (const Peer& peer : peers_) {
    auto state = peer.rank == rank_ ? own_state() : read_state(record_.folder(), peer.rank);
    if (!state) continue;
    seen.push_back(
        {std::move(*state), peer.here ? process_state(peer.pid) : ProcessState::kUnknown});
  }
  return seen;
}

/// Of this host.
int Watchdog::lowest_living_rank() const {
  const auto found = std::ranges::find_if(peers_, [](const Peer& peer) {
    return peer.here && process_state(peer.pid) == ProcessState::kRunning;
  });
  return found == peers_.end() ? rank_ : found->rank;
}

bool Watchdog::a_lower_rank_will_report() const {
  return std::ranges::any_of(seen_ranks(), [&](const SeenRank& seen) {
    return seen.state.rank < rank_ && seen.state.status == RankStatus::kHung &&
           seen.process != ProcessState::kStopped && seen.process != ProcessState::kGone;
  });
}

void Watchdog::end_hang() {
  record_.set_status(RankStatus::kHung);
  tell(describe(own_state(), WallClock::now()));
  show_other_hosts();
  if (!wait(kGraceSeconds)) return;
  if (a_lower_rank_will_report() && !wait(kGraceSeconds)) return;
  if (!job_is_ending()) report_hang();
  end_job();
}

/// In a thread of its own, which the end of the process cuts short: a busy disk may take
/// longer than the grace.
void Watchdog::show_other_hosts() const {
  if (std::ranges::all_of(peers_, &Peer::here)) return;
  std::thread([this] { record_.sync(); }).detach();
}

/// The lines of the ranks that were silent, and the verdict.
void Watchdog::report_hang() const {
  record_.set_status(RankStatus::kEnding);
  const std::vector<SeenRank> ranks = seen_ranks();
  for (const SeenRank& seen : ranks) {
    if (seen.state.status == RankStatus::kRunning) {
      tell(describe(seen.state, WallClock::now()) + " (from its record)");
    }
  }
  if (ranks.size() < peers_.size()) {
    tell(std::to_string(peers_.size() - ranks.size()) + " ranks have no record that can be read");
  }
  tell("no progress for " + std::to_string(limit()) + " s: " + odd_one_out(ranks) +
       way_out(own_state().checkpoint));
}

/// A daemon of mpirun that is cut off from it ends its ranks when one aborts, and then waits
/// for orders as long as TCP does, a quarter of an hour. A child of ours, which
/// outlives us, tells it to end when it is still there after some seconds.
void Watchdog::outlive_daemon() const {
  std::ifstream comm("/proc/" + std::to_string(launcher_) + "/comm");
  std::string name;
  std::getline(comm, name);
  if (name != "orted" || ::getppid() != launcher_) return;
  const auto daemon = static_cast<int>(::syscall(SYS_pidfd_open, launcher_, 0));
  if (daemon < 0 || ::fork() != 0) return;
  // Only system calls from here: another thread may have held any lock at the fork.
  ::setsid();
  ::dup2(daemon, STDIN_FILENO);
  ::close_range(STDIN_FILENO + 1, ~0U, 0);  // the daemon waits for the end of our output
  pollfd gone{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  if (::poll(&gone, 1, kDaemonSeconds * 1000) == 0) {
    ::syscall(SYS_pidfd_send_signal, STDIN_FILENO, SIGTERM, nullptr, 0);
  }
  ::_exit(0);
}

/// In a thread of its own: a GPU that does not answer must not keep the job.
void Watchdog::abort_groups() const {
  std::promise<void> promise;
  const std::future<void> done = promise.get_future();
  std::thread([groups = groups_, promise = std::move(promise)]() mutable {
    for (Communicator* group : groups) group->abort();
    promise.set_value();
  }).detach();
  done.wait_for(std::chrono::duration<double>(kGraceSeconds));
}

void Watchdog::end_job() const {
  record_.set_status(RankStatus::kEnding);
  outlive_daemon();
  std::thread([] {  // should the launcher not hear MPI_Abort
    std::this_thread::sleep_for(std::chrono::seconds(2));
    ::_Exit(kExitWatchdog);
  })
      .detach();
  abort_groups();
  int started = 0;
  MPI_Initialized(&started);
  if (started != 0) MPI_Abort(MPI_COMM_WORLD, kExitWatchdog);
  ::_Exit(kExitWatchdog);
}

}  // namespace switchyard
