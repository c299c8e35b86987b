#include "distributed/mpi_communicator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "base/error.h"
#include "distributed/collectives.h"
#include "distributed/mpi_calls.h"
#include "support/mpi_main.h"
#include "support/tensors.h"

// Every test runs at W = 1, 2, 4, 8.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t kAtOnce = INT32_MAX;
constexpr int64_t kInRounds = 3;

std::unique_ptr<Communicator> make_world(int64_t round_limit) {
  return make_mpi_communicator(MPI_COMM_WORLD, /*color=*/0, test_runtime().rank(), "world",
                               round_limit);
}

/// Each call at once, and in rounds of so many elements or rows.
Transport transport(const char* name, int64_t limit) {
  return {.name = name,
          .make_world = [limit] { return make_world(limit); },
          .begin = forget_mpi_counts,
          .end = [limit] { EXPECT_LE(largest_mpi_count(), limit); }};
}

const auto transports =
    testing::Values(transport("AtOnce", kAtOnce), transport("InRounds", kInRounds));

INSTANTIATE_TEST_SUITE_P(Mpi, CollectiveTest,
                         testing::Combine(testing::ValuesIn(travelling_dtypes()), transports),
                         name_of_collective);
INSTANTIATE_TEST_SUITE_P(Mpi, TransportTest, transports, name_of_transport);

TEST(MpiCommunicatorTest, GroupsAreSplitByColorAndOrderedByKey) {
  const int rank = test_runtime().rank(), size = test_runtime().world_size();
  const auto group =
      make_mpi_communicator(MPI_COMM_WORLD, /*color=*/rank % 2, /*key=*/-rank, "half");
  EXPECT_EQ(group->name(), "half");
  EXPECT_EQ(group->size(), rank % 2 == 0 ? (size + 1) / 2 : size / 2);
  Tensor members = at::empty({group->size()}, at::kInt);
  group->all_gather(at::full({1}, rank, at::kInt), members, "members");
  for (int i = 0; i + 1 < group->size(); ++i) {
    EXPECT_EQ(members[i].item<int>() - members[i + 1].item<int>(), 2);
  }
  EXPECT_EQ(members[group->rank()].item<int>(), rank);
}

TEST(MpiCommunicatorTest, BarrierWaitsForTheLastRankAndTheTimeIsKept) {
  const auto world = make_world(kAtOnce);
  double before = world->milliseconds();
  EXPECT_EQ(before, 0);
  for (int i = 0; i < 3; ++i) {
    world->barrier("barrier");
    EXPECT_GT(world->milliseconds(), before);
    before = world->milliseconds();
  }
}

TEST(MpiCommunicatorTest, AnErrorOfMpiNamesTheCallAndThePurpose) {
  const auto world = make_world(kAtOnce);
  Tensor x = at::ones({2});
  try {
    world->broadcast(x, /*root=*/world->size(), "weights of layer 7");
    ADD_FAILURE() << "no error";
  } catch (const CommError& error) {
    EXPECT_EQ(std::string(error.what()).find("MPI_Bcast, weights of layer 7: MPI_ERR_ROOT"), 0U)
        << error.what();
    EXPECT_EQ(error.exit_code, kExitComm);
  }
}

/// The message of an exchange in which the last rank sends `sent` rows to each, and all expect one
/// of each; "" where it ends well.
std::string message_of(Communicator& world, int64_t sent) {
  const int size = world.size();
  const bool is_last = world.rank() == size - 1;
  const std::vector<int64_t> send(size, is_last ? sent : 1), recv(size, 1);
  const int64_t rows = is_last ? sent * size : size;
  try {
    world.all_to_all(at::ones({rows, 2}), send, recv, "dispatch in layer 3");
    return "";
  } catch (const CommError& error) {
    return error.what();
  }
}

TEST(MpiCommunicatorTest, RowsThatAReceiverDoesNotExpectAreToldByIt) {
  for (const int64_t limit : {kAtOnce, kInRounds}) {
    for (const int64_t sent : {0, 2, 3}) {
      const auto world = make_world(limit);
      const int size = world->size();
      EXPECT_EQ(message_of(*world, sent), "all-to-all, dispatch in layer 3: rank " +
                                              std::to_string(size - 1) + " of world sends " +
                                              std::to_string(sent) + " rows to rank " +
                                              std::to_string(world->rank()) + ", which expects 1");
      const std::vector<int64_t> ones(size, 1);  // the communicator is as good as before
      EXPECT_TRUE(same(world->all_to_all(at::ones({size}), ones, ones, "again"), at::ones({size})));
    }
  }
}

TEST(MpiCommunicatorTest, OnlyTimeInsideAnExchangeCounts) {
  const auto world = make_world(kAtOnce);
  const PlacedBlocks placed = make_placed_blocks(*world, 2);
  Tensor there = at::zeros_like(placed.received);
  const auto begin = std::chrono::steady_clock::now();
  const auto rows = world->start_all_to_all(placed.sent, placed.send, there, placed.recv, "there");
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  rows->wait();
  const std::chrono::duration<double, std::milli> all = std::chrono::steady_clock::now() - begin;
  EXPECT_GT(world->milliseconds(), 0);
  EXPECT_LE(world->milliseconds(), all.count() - 100);
  int64_t own = 0;
  for (const int64_t b : {0, 1}) own += placed_rows(world->rank(), world->rank(), b);
  EXPECT_EQ(world->exchanged_bytes(), 8 * (placed.send.total() - own));
}

TEST(MpiCommunicatorTest, AnExchangeThatIsGivenUpHarmsNoLaterOne) {
  const auto world = make_world(kAtOnce);
  const PlacedBlocks placed = make_placed_blocks(*world, 2);
  Tensor there = at::zeros_like(placed.received);
  world->start_all_to_all(placed.sent, placed.send, there, placed.recv, "given up").reset();
  world->start_all_to_all(placed.sent, placed.send, there, placed.recv, "there")->wait();
  EXPECT_TRUE(same(there, placed.received));
}

}  // namespace
}  // namespace switchyard
