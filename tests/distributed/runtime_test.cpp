#include "distributed/runtime.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "distributed/rank_state.h"
#include "support/mpi_main.h"

namespace switchyard {
namespace {

/// The world ranks of a group, in its order.
std::vector<int64_t> members(Communicator& group) {
  at::Tensor ranks = at::empty({group.size()}, at::kLong);
  group.all_gather(at::full({1}, test_runtime().rank(), at::kLong), ranks, "members");
  return {ranks.data_ptr<int64_t>(), ranks.data_ptr<int64_t>() + ranks.numel()};
}

/// count ranks: first, first + stride, ...
std::vector<int64_t> strided(int64_t first, int64_t stride, int64_t count) {
  std::vector<int64_t> ranks(count);
  for (int64_t i = 0; i < count; ++i) ranks[i] = first + i * stride;
  return ranks;
}

TEST(RuntimeTest, KnowsItsPlaceOnThisHost) {
  const Runtime& runtime = test_runtime();
  EXPECT_EQ(runtime.local_size(), runtime.world_size());
  EXPECT_EQ(runtime.local_rank(), runtime.rank());
  const Mesh mesh = runtime.make_mesh({});
  EXPECT_EQ(mesh.world->rank(), runtime.rank());
  EXPECT_EQ(members(*mesh.world), strided(0, 1, runtime.world_size()));
  EXPECT_EQ(mesh.world->name(), "world");
  EXPECT_EQ(mesh.expert->name(), "expert parallel");
  EXPECT_EQ(mesh.data->name(), "expert data parallel");
}

TEST(RuntimeTest, TheRecordKnowsTheGroupsAndTheirCollectives) {
  const Runtime& runtime = test_runtime();
  const int rank = runtime.rank(), W = runtime.world_size();
  for (const std::string order : {"expert_inner", "data_inner"}) {
    for (int EP = 1; EP <= W; EP *= 2) {
      const Mesh mesh = runtime.make_mesh({EP, order});
      const RankState state = parse_flight_record(runtime.record().text());
      EXPECT_EQ(state.rank, rank);
      for (Communicator* group : {mesh.world.get(), mesh.expert.get(), mesh.data.get()}) {
        const auto known =
            std::ranges::find(state.communicators, group->name(), &RecordedCommunicator::name);
        ASSERT_NE(known, state.communicators.end());
        const Members noted = known->members;
        EXPECT_EQ(members(*group), strided(noted.first, noted.stride, noted.count)) << EP;
      }
      ASSERT_GE(state.collectives.size(), 3U);
      EXPECT_EQ(describe(state.collectives.back()),
                "barrier #1 \"warm-up\" of expert data parallel");
    }
  }
  const Mesh mesh = runtime.make_mesh({});
  at::Tensor x = at::ones({4});
  mesh.world->all_reduce(x, ReduceOp::kSum, "four numbers");
  const RankState state = parse_flight_record(runtime.record().text());
  EXPECT_EQ(describe(state.collectives.back()), "all-reduce #2 \"four numbers\" of world");
  EXPECT_EQ(state.collectives.back().bytes, 16);
  EXPECT_EQ(state.inside(), nullptr);
}

TEST(RuntimeTest, ExpertInnerPutsNeighboursIntoOneExpertGroup) {
  const int rank = test_runtime().rank(), W = test_runtime().world_size();
  for (int EP = 1; EP <= W; EP *= 2) {
    const Mesh mesh = test_runtime().make_mesh({EP, "expert_inner"});
    const int EDP = W / EP;
    EXPECT_EQ(mesh.expert_rank(), rank % EP) << EP;
    EXPECT_EQ(mesh.expert_size(), EP);
    EXPECT_EQ(mesh.data->rank(), rank / EP) << EP;
    EXPECT_EQ(mesh.data->size(), EDP);
    EXPECT_EQ(members(*mesh.expert), strided(rank / EP * EP, 1, EP)) << EP;
    EXPECT_EQ(members(*mesh.data), strided(rank % EP, EP, EDP)) << EP;
  }
}

TEST(RuntimeTest, DataInnerPutsNeighboursIntoOneDataGroup) {
  const int rank = test_runtime().rank(), W = test_runtime().world_size();
  for (int EP = 1; EP <= W; EP *= 2) {
    const Mesh mesh = test_runtime().make_mesh({EP, "data_inner"});
    const int EDP = W / EP;
    EXPECT_EQ(mesh.expert_rank(), rank / EDP) << EP;
    EXPECT_EQ(mesh.data->rank(), rank % EDP) << EP;
    EXPECT_EQ(members(*mesh.expert), strided(rank % EDP, EDP, EP)) << EP;
    EXPECT_EQ(members(*mesh.data), strided(rank / EDP * EDP, 1, EDP)) << EP;
  }
}

TEST(RuntimeTest, ExpertParallelMustDivideTheWorld) {
  const int W = test_runtime().world_size();
  for (const int EP : {-1, 0, 3, 5, 6, 7, W + 1, 2 * W}) {
    EXPECT_THROW(test_runtime().make_mesh({EP, "expert_inner"}), ConfigError) << EP;
  }
  try {
    test_runtime().make_mesh({W + 1, "expert_inner"});
  } catch (const ConfigError& error) {
    const std::string what = error.what();
    EXPECT_EQ(what.find("parallel.expert: " + std::to_string(W + 1)), 0U) << what;
    EXPECT_NE(what.find("world of " + std::to_string(W)), std::string::npos) << what;
  }
}

}  // namespace
}  // namespace switchyard
