#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "distributed/communicator.h"
#include "distributed/flight_record.h"
#include "distributed/hang_report.h"

namespace switchyard {

/// A thread that ends the job when this rank makes no progress or when a rank of
/// this host has vanished, and tells on stderr who, where and why. Ten looks a second;
/// it makes no MPI call but the last one, MPI_Abort.
///
/// A hang: no step, phase or collective began or ended for so many seconds. Each rank
/// tells its line; a second later the lowest of them reads all records, adds the lines
/// of the ranks that could not speak, names the odd one out (see hang_report.h) and
/// ends the job with kExitWatchdog. If it cannot, the others do so a second later. A
/// rank that is still there two seconds after its MPI_Abort ends by itself, and
/// mpirun's daemon of this host, should it be cut off from mpirun, five seconds after.
///
/// A vanished rank: its process is gone and its record does not say that it leaves.
/// The lowest rank left on the host tells where it was, and ends the job.
///
/// A launcher that is gone: this process ends too, so that no rank is left behind.
///
/// Time in which this process does not run (a suspended job) does not count.
class Watchdog {
 public:
  struct Limits {
    int64_t timeout_seconds = 0;       // 0: hangs are not looked for
    int64_t save_timeout_seconds = 0;  // in the phases "save" and "load"; 0 as above
  };

  /// `record` is open, and outlives this. Collective over `world`.
  ///
  ///   groups  communicators whose work on a GPU is aborted before the job ends, which must
  ///           outlive this: a GPU that waits for a lost rank may hold up the end
  Watchdog(FlightRecord& record, Communicator& world, Limits limits,
           std::vector<Communicator*> groups = {});
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  struct Peer {
    int rank = 0;
    bool here = false;  // on this host, and in our sight
    int64_t pid = 0;
    bool missed = false;  // gone at the last look
  };

  void watch();
  bool wait(double seconds);
  void look_at_launcher();
  void look_at_peers();
  void look_at_progress(double seconds);
  int64_t limit() const;
  RankState own_state() const;
  bool job_is_ending() const;
  std::vector<SeenRank> seen_ranks() const;
  int lowest_living_rank() const;
  bool a_lower_rank_will_report() const;
  void end_hang();
  void show_other_hosts() const;
  void report_hang() const;
  void outlive_daemon() const;
  void abort_groups() const;
  [[noreturn]] void end_job() const;

  FlightRecord& record_;
  const int rank_;
  const Limits limits_;
  const std::vector<Communicator*> groups_;
  const int64_t launcher_;   // the parent's pid at the start
  std::vector<Peer> peers_;  // all ranks, this one too
  uint64_t seen_changes_ = 0;
  double idle_seconds_ = 0;
  bool stopping_ = false;  // guarded by mutex_
  std::mutex mutex_;
  std::condition_variable stop_;
  std::thread thread_;
};

}  // namespace switchyard
