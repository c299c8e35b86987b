#include <ATen/ATen.h>

#include "base/error.h"
#include "distributed/collectives.h"
#include "distributed/device.h"
#include "distributed/host_staged_communicator.h"
#include "distributed/mpi_communicator.h"
#include "distributed/nccl_communicator.h"
#include "gpu/support.h"
#include "support/mpi_main.h"

// At W = 1, 2, 4 on one GPU or more, which the ranks share.

namespace switchyard {
namespace {

c10::Device gpu() { return select_device("cuda", test_runtime().local_rank()); }

void a_gpu() { gpu_or_skip(); }

std::unique_ptr<Communicator> make_world() {
  return make_host_staged_communicator(
      make_mpi_communicator(MPI_COMM_WORLD, /*color=*/0, test_runtime().rank(), "world"));
}

const auto transports = testing::Values(
    Transport{.name = "SharedGpu", .make_world = make_world, .device = gpu, .begin = a_gpu});

INSTANTIATE_TEST_SUITE_P(Staged, CollectiveTest,
                         testing::Combine(testing::ValuesIn(travelling_dtypes()), transports),
                         name_of_collective);
INSTANTIATE_TEST_SUITE_P(Staged, TransportTest, transports, name_of_transport);

TEST_F(GpuTest, RanksThatShareAGpuAreToldOfTheOtherTransport) {
  if (test_runtime().local_size() <= visible_gpus()) return;
  const Mesh mesh = test_runtime().make_mesh({});
  try {
    check_one_rank_per_gpu(*mesh.world, gpu());
    ADD_FAILURE() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("use parallel.gpu_transport: mpi to share one GPU"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace switchyard
