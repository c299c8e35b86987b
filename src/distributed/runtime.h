#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <string>

#include "config/run_config.h"
#include "distributed/flight_record.h"
#include "distributed/mesh.h"

namespace switchyard {

/// MPI for the life of the process: initialised here when mpirun (or srun)
/// started it, finalised at the end of the scope. A process that nobody
/// launched is a world of one and never touches MPI.
class Runtime {
 public:
  Runtime(int& argc, char**& argv);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  /// Whether mpirun or srun started this process: its terminal is then the launcher's.
  bool launched() const { return launched_; }
  int rank() const { return rank_; }
  int world_size() const { return world_size_; }
  /// Ranks of this job on this host, and this one's place among them.
  int local_size() const { return local_size_; }
  int local_rank() const { return local_rank_; }

  /// What this rank is doing, for messages and for the watchdog; see there. The
  /// communicators of `make_mesh` note their collectives in it.
  FlightRecord& record() const { return *record_; }

  /// Makes every communicator of the run and warms each; none is made later. They take
  /// tensors in host memory, and on `device` where that is another, by `parallel.gpu_transport`.
  /// Collective over all ranks. Throws ConfigError when the world is not a multiple of
  /// `parallel.expert`, or when ranks would share a GPU that the transport does not share.
  Mesh make_mesh(const ParallelConfig& parallel, c10::Device device = c10::kCPU) const;

  /// Prints `what` with the record's step, phase and last checkpoint, and ends every
  /// rank of the job with `exit_code`: one rank's
  /// failure has to end the job, the others wait for it in a collective. Ranks
  /// above 0 wait a second first, so that a failure that all ranks share (a
  /// config error) is told once.
  [[noreturn]] void abort_job(const std::string& what, int exit_code) const;

 private:
  void start_mpi(int& argc, char**& argv);

  bool launched_ = false;
  int rank_ = 0, world_size_ = 1, local_rank_ = 0, local_size_ = 1;
  std::unique_ptr<FlightRecord> record_;
};

}  // namespace switchyard
