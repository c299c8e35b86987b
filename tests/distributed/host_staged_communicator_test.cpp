#include "distributed/host_staged_communicator.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "distributed/collectives.h"
#include "distributed/mpi_communicator.h"
#include "support/host_device.h"
#include "support/mpi_main.h"
#include "support/tensors.h"

// Every test runs at W = 1, 2, 4, 8.

namespace switchyard {
namespace {

using at::Tensor;

std::unique_ptr<Communicator> make_world() {
  return make_host_staged_communicator(
      make_mpi_communicator(MPI_COMM_WORLD, /*color=*/0, test_runtime().rank(), "world"));
}

const auto transports = testing::Values(
    Transport{.name = "DeviceTensors", .make_world = make_world, .device = host_device},
    Transport{.name = "HostTensors", .make_world = make_world});

INSTANTIATE_TEST_SUITE_P(Staged, CollectiveTest,
                         testing::Combine(testing::ValuesIn(travelling_dtypes()), transports),
                         name_of_collective);
INSTANTIATE_TEST_SUITE_P(Staged, TransportTest, transports, name_of_transport);

TEST(HostStagedCommunicatorTest, IsTheRankThatItStandsFor) {
  const auto world = make_world();
  EXPECT_EQ(world->rank(), test_runtime().rank());
  EXPECT_EQ(world->size(), test_runtime().world_size());
  EXPECT_EQ(world->name(), "world");
}

TEST(HostStagedCommunicatorTest, OnlyRowsThatAreSentCrossToTheHost) {
  // Of 1,000 rows each rank sends one to each, in two exchanges that are under way at once.
  const auto world = make_world();
  const int size = world->size();
  const Tensor rows = at::arange(1000, at::kLong).to(host_device());
  Tensor first = at::zeros({size}, at::kLong).to(host_device()), second = first.clone();
  const RowBlocks in_order = RowBlocks::in_order(std::vector<int64_t>(size, 1));
  RowBlocks far = in_order;
  for (int r = 0; r < size; ++r) far.begin[r] = 900 + 2 * r;
  const int64_t before = host_device_traffic().to_host;
  const auto a = world->start_all_to_all(rows, in_order, first, in_order, "first"),
             b = world->start_all_to_all(rows, far, second, in_order, "second");
  // Rows that follow one another are one copy.
  EXPECT_EQ(host_device_traffic().to_host - before, 1 + size);
  b->wait();
  a->wait();
  EXPECT_TRUE(same(first.cpu(), at::full({size}, world->rank(), at::kLong)));
  EXPECT_TRUE(same(second.cpu(), at::full({size}, 900 + 2 * world->rank(), at::kLong)));
  EXPECT_EQ(world->exchanged_bytes(), 2 * 8 * (size - 1));
}

TEST(HostStagedCommunicatorTest, ACallTakesTensorsOfOnePlace) {
  const auto world = make_world();
  const Tensor here = at::ones({1});
  Tensor there = at::ones({world->size()}).to(host_device());
  EXPECT_THROW(world->all_gather(here, there, "places"), c10::Error);
}

TEST(HostStagedCommunicatorTest, MakeMeshRefusesATransportThatThisBuildHasNot) {
  try {
    test_runtime().make_mesh({}, host_device());
    ADD_FAILURE() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_EQ(std::string(error.what()).find("parallel.gpu_transport: nccl: this build has no"), 0U)
        << error.what();
  }
}

TEST(HostStagedCommunicatorTest, MakeMeshStagesWhatIsNotOnTheHost) {
  ParallelConfig parallel;
  parallel.gpu_transport = "mpi";
  const Mesh mesh = test_runtime().make_mesh(parallel, host_device());
  for (Communicator* group : {mesh.world.get(), mesh.expert.get(), mesh.data.get()}) {
    Tensor x = at::ones({3}).to(host_device()), y = at::ones({3});
    group->all_reduce(x, ReduceOp::kSum, "sum");
    group->all_reduce(y, ReduceOp::kSum, "sum");
    EXPECT_TRUE(same(x.cpu(), y));
    EXPECT_EQ(y[0].item<float>(), group->size());
  }
}

}  // namespace
}  // namespace switchyard
