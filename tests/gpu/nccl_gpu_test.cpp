#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>

#include "base/error.h"
#include "distributed/collectives.h"
#include "distributed/device.h"
#include "distributed/mpi_communicator.h"
#include "distributed/nccl_communicator.h"
#include "gpu/support.h"
#include "support/mpi_main.h"
#include "support/tensors.h"

// At W = 1, 2, 4, 8, each rank with a GPU of its own.

namespace switchyard {
namespace {

using at::Tensor;

c10::Device gpu() { return select_device("cuda", test_runtime().local_rank()); }

void one_gpu_each() { gpu_or_skip(test_runtime().local_size()); }

std::unique_ptr<Communicator> make_world() {
  auto host = make_mpi_communicator(MPI_COMM_WORLD, /*color=*/0, test_runtime().rank(), "world");
  return make_nccl_communicator(std::move(host), gpu());
}

const auto transports = testing::Values(
    Transport{
        .name = "DeviceTensors", .make_world = make_world, .device = gpu, .begin = one_gpu_each},
    Transport{.name = "HostTensors", .make_world = make_world, .begin = one_gpu_each});

INSTANTIATE_TEST_SUITE_P(Nccl, CollectiveTest,
                         testing::Combine(testing::ValuesIn(travelling_dtypes()), transports),
                         name_of_collective);
INSTANTIATE_TEST_SUITE_P(Nccl, TransportTest, transports, name_of_transport);

class NcclGpuTest : public testing::Test {
 protected:
  void SetUp() override { one_gpu_each(); }
};

TEST_F(NcclGpuTest, CallsAreInTheOrderOfTheCurrentStream) {
  // Long work before each call and a change right after it: in any other order the sum is wrong.
  const auto world = make_world();
  const c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool();
  const c10::cuda::CUDAStreamGuard guard(stream);
  Tensor x = at::ones({1 << 20}, at::device(gpu()));
  const Tensor a = at::ones({2048, 2048}, at::device(gpu()));
  for (int i = 0; i < 10; ++i) {
    const Tensor slow = a.matmul(a).matmul(a);
    x.copy_(slow.flatten().narrow(0, 0, x.numel()).clamp_max(1));
    world->all_reduce(x, ReduceOp::kSum, "sum");
    const Tensor sum = x.clone();
    x.fill_(-1);
    EXPECT_EQ(sum.min().item<float>(), world->size());
    EXPECT_EQ(sum.max().item<float>(), world->size());
  }
}

TEST_F(NcclGpuTest, RowsMoveWhileTheCurrentStreamComputes) {
  const auto world = make_world();
  const int64_t size = world->size(), rows = 4096;
  const RowBlocks blocks = RowBlocks::in_order(std::vector<int64_t>(size, rows));
  const Tensor sent = at::full({size * rows, 64}, world->rank(), at::device(gpu()));
  Tensor arrived = at::full_like(sent, -1);
  const Tensor a = at::ones({1024, 1024}, at::device(gpu()));
  const auto under_way = world->start_all_to_all(sent, blocks, arrived, blocks, "rows");
  const Tensor product = a.matmul(a);
  under_way->wait();
  const Tensor from = at::arange(size).repeat_interleave(rows).to(at::kFloat);
  EXPECT_TRUE(same(arrived.select(1, 0).cpu(), from));
  EXPECT_EQ(product.min().item<float>(), 1024);
}

TEST_F(NcclGpuTest, AnExchangeThatIsGivenUpHarmsNoLaterOne) {
  const auto world = make_world();
  const RowBlocks blocks = RowBlocks::in_order(std::vector<int64_t>(world->size(), 1000));
  for (int i = 0; i < 3; ++i) {
    const Tensor sent = at::ones({1000 * world->size()}, at::device(gpu()));
    Tensor arrived = at::zeros_like(sent);
    const auto under_way = world->start_all_to_all(sent, blocks, arrived, blocks, "rows");
    if (i < 2) continue;
    under_way->wait();
    EXPECT_EQ(arrived.sum().item<float>(), 1000 * world->size());
  }
}

TEST_F(NcclGpuTest, AfterAnAbortNothingWaitsForRanksThatDoNotCome) {
  // Rank 0 alone calls: its stream would wait for ever.
  const auto world = make_world();
  if (world->size() > 1 && world->rank() == 0) {
    Tensor x = at::ones({1}, at::device(gpu()));
    world->all_reduce(x, ReduceOp::kSum, "alone");
    world->abort();
    at::cuda::getCurrentCUDAStream().synchronize();
  }
  test_runtime().make_mesh({}).world->barrier("rank 0 is back");
  if (world->rank() != 0) world->abort();
}

TEST_F(NcclGpuTest, ARunHasItsCommunicatorsByNccl) {
  for (int EP = 1; EP <= test_runtime().world_size(); EP *= 2) {
    const Mesh mesh = test_runtime().make_mesh({EP}, gpu());
    for (Communicator* group : {mesh.world.get(), mesh.expert.get(), mesh.data.get()}) {
      Tensor x = at::ones({3}, at::device(gpu()));
      group->all_reduce(x, ReduceOp::kSum, "sum");
      EXPECT_EQ(x.sum().item<float>(), 3 * group->size());
    }
  }
}

}  // namespace
}  // namespace switchyard
