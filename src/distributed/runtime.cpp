#include "distributed/runtime.h"

#include <ATen/ATen.h>
#include <mpi.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>

#include "base/error.h"
#include "base/stop_signal.h"
#include "distributed/check_mpi.h"
#include "distributed/host_staged_communicator.h"
#include "distributed/mpi_communicator.h"
#include "distributed/nccl_communicator.h"
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

using MakeGroup =
    std::function<std::unique_ptr<Communicator>(int color, int key, const char* name)>;

/// What makes the groups of a world whose tensors are on `device`. Collective.
MakeGroup group_maker(const ParallelConfig& parallel, c10::Device device) {
  const MakeGroup by_mpi = [](int color, int key, const char* name) {
    return make_mpi_communicator(MPI_COMM_WORLD, color, key, name);
  };
  if (device.is_cpu()) return by_mpi;
  if (parallel.gpu_transport == "mpi") {
    return [=](int color, int key, const char* name) {
      return make_host_staged_communicator(by_mpi(color, key, name));
    };
  }
  check_one_rank_per_gpu(*by_mpi(0, 0, "world"), device);
  return [=](int color, int key, const char* name) {
    return make_nccl_communicator(by_mpi(color, key, name), device);
  };
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
  MPI_Comm_rank(host, &local_rank_);
  MPI_Comm_size(host, &local_size_);
  MPI_Comm_free(&host);
}

Runtime::~Runtime() {
  record_->set_status(RankStatus::kFinished);
  if (launched_) MPI_Finalize();
}

Mesh Runtime::make_mesh(const ParallelConfig& parallel, c10::Device device) const {
  const MeshPlace place = place_in_mesh(parallel, rank_, world_size_);
  if (!launched_) {
    return {make_solo_communicator("world"), make_solo_communicator("expert parallel"),
            make_solo_communicator("expert data parallel"), parallel.overlap_chunks};
  }
  const MakeGroup make = group_maker(parallel, device);
  Mesh mesh{make(0, rank_, "world"), make(place.edp, place.ep, "expert parallel"),
            make(place.ep, place.edp, "expert data parallel"), parallel.overlap_chunks};
  mesh.world->note_in(*record_, place.world);
  mesh.expert->note_in(*record_, place.expert);
  mesh.data->note_in(*record_, place.data);
  if (!device.is_cpu()) {  // the first rows between two ranks connect them
    const std::vector<int64_t> one_each(mesh.expert_size(), 1);
    const at::Tensor rows = at::zeros({mesh.expert_size()}, at::device(device));
    mesh.expert->all_to_all(rows, one_each, one_each, "warm-up");
  }
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
