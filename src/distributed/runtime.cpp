#include "distributed/runtime.h"

#include <mpi.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "base/error.h"
#include "base/stop_signal.h"
#include "distributed/check_mpi.h"
#include "distributed/mpi_communicator.h"
#include "distributed/solo_communicator.h"

namespace switchyard {
namespace {

/// Whether a launcher that speaks PMIx or PMI started this process.
bool was_launched() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

}  // namespace

Runtime::Runtime(int& argc, char**& argv) : launched_(was_launched()) {
  if (launched_) start_mpi(argc, argv);
  record_ = std::make_unique<FlightRecord>(rank_, world_size_);
}

void Runtime::start_mpi(int& argc, char**& argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &world_size_);
  MPI_Comm host = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host);
  MPI_Comm_size(host, &local_size_);
  MPI_Comm_free(&host);
}

Runtime::~Runtime() {
  record_->set_status(RankStatus::kFinished);
  if (launched_) MPI_Finalize();
}

Mesh Runtime::make_mesh(const ParallelConfig& parallel) const {
  const int EP = static_cast<int>(parallel.expert);
  if (EP < 1 || world_size_ % EP != 0) {
    throw ConfigError("parallel.expert: " + std::to_string(EP) + " does not divide the world of " +
                      std::to_string(world_size_) +
                      " ranks; launch a multiple of it with mpirun -n");
  }
  if (!launched_) {
    return {make_solo_communicator("world"), make_solo_communicator("expert parallel"),
            make_solo_communicator("expert data parallel"), parallel.overlap_chunks};
  }
  const int EDP = world_size_ / EP;
  const bool expert_inner = parallel.order == "expert_inner";
  const int inner = expert_inner ? EP : EDP;  // ranks of a group of neighbours
  const int ep = expert_inner ? rank_ % EP : rank_ / EDP;
  const int edp = expert_inner ? rank_ / EP : rank_ % EDP;
  Mesh mesh{make_mpi_communicator(MPI_COMM_WORLD, 0, rank_, "world"),
            make_mpi_communicator(MPI_COMM_WORLD, edp, ep, "expert parallel"),
            make_mpi_communicator(MPI_COMM_WORLD, ep, edp, "expert data parallel"),
            parallel.overlap_chunks};
  const Members world{0, 1, world_size_};
  const Members neighbours{rank_ - rank_ % inner, 1, inner};
  const Members strided{rank_ % inner, inner, world_size_ / inner};
  mesh.world->note_in(*record_, world);
  mesh.expert->note_in(*record_, expert_inner ? neighbours : strided);
  mesh.data->note_in(*record_, expert_inner ? strided : neighbours);
  for (Communicator* group : {mesh.world.get(), mesh.expert.get(), mesh.data.get()}) {
    group->barrier("warm-up");
  }
  return mesh;
}

void Runtime::abort_job(const std::string& what, int exit_code) const {
  record_->set_status(RankStatus::kEnding);
  restore_stop_signals();  // with one, mpirun ends those that would only say the same again
  if (rank_ > 0) std::this_thread::sleep_for(std::chrono::seconds(1));
  const std::string who = world_size_ > 1 ? "rank " + std::to_string(rank_) + ": " : "";
  std::fprintf(stderr, "switchyard: %s%s%s\n", who.c_str(), what.c_str(), record_->where().c_str());
  std::fflush(stderr);
  if (launched_) MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

}  // namespace switchyard
