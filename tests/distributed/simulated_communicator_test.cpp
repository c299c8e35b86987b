#include "distributed/simulated_communicator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <numeric>

#include "base/error.h"

namespace switchyard {
namespace {

using at::Tensor;

constexpr int kRanks = 1024, kPerHost = 8;

std::unique_ptr<Communicator> make_world(int rank, TrafficLog& log) {
  return make_simulated_communicator("world", {0, 1, kRanks}, rank, kPerHost, log);
}

void expect_traffic(const Traffic& traffic, int64_t messages, int64_t in_host, int64_t across) {
  EXPECT_EQ(traffic.calls, 1) << traffic.purpose;
  EXPECT_EQ(traffic.messages, messages) << traffic.purpose;
  EXPECT_EQ(traffic.bytes_in_host, in_host) << traffic.purpose;
  EXPECT_EQ(traffic.bytes_across, across) << traffic.purpose;
}

TEST(SimulatedCommunicatorTest, TheOthersDoWhatThisRankDoes) {
  TrafficLog log;
  const auto world = make_world(5, log);
  EXPECT_EQ(world->rank(), 5);
  EXPECT_EQ(world->size(), kRanks);
  Tensor x = at::full({4}, 3, at::kLong);
  world->all_reduce(x, ReduceOp::kSum, "sum");
  EXPECT_TRUE(at::equal(x, at::full({4}, 3 * kRanks, at::kLong)));
  world->all_reduce(x, ReduceOp::kMax, "maximum");
  EXPECT_TRUE(at::equal(x, at::full({4}, 3 * kRanks, at::kLong)));
  world->broadcast(x, /*root=*/9, "broadcast");
  EXPECT_TRUE(at::equal(x, at::full({4}, 3 * kRanks, at::kLong)));

  const Tensor input = at::arange(2 * kRanks, at::kFloat);
  Tensor output = at::zeros({2});
  world->reduce_scatter(input, output, "reduce-scatter");
  EXPECT_TRUE(at::equal(output, at::tensor({10.0F, 11.0F}) * kRanks));
  Tensor own = input.narrow(0, 10, 2);
  world->reduce_scatter(input, own, "in place");
  EXPECT_TRUE(at::equal(own, output));

  Tensor all = at::zeros({kRanks});
  world->all_gather(at::ones({1}), all, "all-gather");
  EXPECT_TRUE(at::equal(all, at::ones({kRanks})));
  all = at::arange(kRanks, at::kFloat);
  world->all_gather(all.narrow(0, 5, 1), all, "in place");  // what others have is not known
  EXPECT_TRUE(at::equal(all, at::arange(kRanks, at::kFloat)));
  EXPECT_EQ(all_gather_text(*world, "a rank", "texts"), std::vector<std::string>(kRanks, "a rank"));
}

TEST(SimulatedCommunicatorTest, UnevenPiecesAreSummed) {
  TrafficLog log;
  const auto group = make_simulated_communicator("data", {0, 1, 3}, /*rank=*/1, 1, log);
  Tensor output = at::zeros({2});
  group->reduce_scatter_uneven(at::arange(7, at::kFloat), {4, 2, 1}, output, "gradient");
  EXPECT_TRUE(at::equal(output, at::tensor({12.0F, 15.0F})));
  expect_traffic(log.all().front(), 2, 0, 4 * 5);
}

TEST(SimulatedCommunicatorTest, CollectivesAreCountedAsRings) {
  // 2,048 floats: pieces of two, to the next rank; that of rank 7 is on another host.
  for (const int rank : {6, 7}) {
    const int64_t in_host = rank == 6 ? 1 : 0, across = 1 - in_host, piece = 8, steps = kRanks - 1;
    TrafficLog log;
    const auto world = make_world(rank, log);
    Tensor whole = at::zeros({2048}), part = at::zeros({2});
    world->all_reduce(whole, ReduceOp::kSum, "all-reduce");
    world->reduce_scatter(whole, part, "reduce-scatter");
    world->all_gather(part, whole, "all-gather");
    world->broadcast(whole, /*root=*/0, "broadcast");
    world->barrier("barrier");
    ASSERT_EQ(log.all().size(), 5U);
    expect_traffic(log.all()[0], 2 * steps, in_host * 2 * steps * piece,
                   across * 2 * steps * piece);
    expect_traffic(log.all()[1], steps, in_host * steps * piece, across * steps * piece);
    expect_traffic(log.all()[2], steps, in_host * steps * piece, across * steps * piece);
    expect_traffic(log.all()[3], 1, in_host * 8192, across * 8192);
    expect_traffic(log.all()[4], 0, 0, 0);
    EXPECT_EQ(log.bytes_for("all-"), 3 * steps * piece);
    EXPECT_EQ(log.all()[0].group, "world");
    EXPECT_EQ(log.all()[0].op, "all-reduce");
  }
  TrafficLog log;
  Tensor x = at::zeros({1});
  make_world(kRanks - 1, log)->broadcast(x, /*root=*/0, "ends here");
  expect_traffic(log.all().front(), 0, 0, 0);
}

TEST(SimulatedCommunicatorTest, RowsAreCountedByWhereTheyGo) {
  // 16 ranks from 4 on, two of each host of 8 and 8 and 4: rank 3 of them is world rank 7.
  TrafficLog log;
  const auto group = make_simulated_communicator("expert", {4, 1, 16}, /*rank=*/3, kPerHost, log);
  std::vector<int64_t> send(16, 2), recv(16, 2);
  send[15] = 5;
  const Tensor rows = at::arange(35 * 3, at::kFloat).view({35, 3});
  const Tensor arrived = group->all_to_all(rows, send, recv, "dispatch");
  EXPECT_EQ(arrived.sizes(), at::IntArrayRef({32, 3}));
  for (int peer = 0; peer < 16; ++peer)
    EXPECT_TRUE(at::equal(arrived.narrow(0, 2 * peer, 2), rows.narrow(0, 6, 2))) << peer;
  expect_traffic(log.all().front(), 15, 3 * 2 * 12, (11 * 2 + 5) * 12);
  EXPECT_EQ(group->exchanged_bytes(), (14 * 2 + 5) * 12);

  // And back: the last rank returns five, of some kind.
  const Tensor back = group->all_to_all(arrived, recv, send, "return");
  EXPECT_EQ(back.sizes(), rows.sizes());
  EXPECT_TRUE(at::equal(back.narrow(0, 6, 2), rows.narrow(0, 6, 2)));
  EXPECT_TRUE(back.isfinite().all().item<bool>());
  expect_traffic(log.all().back(), 15, 3 * 2 * 12, 12 * 2 * 12);
}

TEST(SimulatedCommunicatorTest, EmptyBlocksAreNoMessages) {
  TrafficLog log;
  const auto group = make_simulated_communicator("expert", {0, 1, 4}, /*rank=*/0, 2, log);
  const Tensor arrived = group->all_to_all(at::ones({3, 2}), {0, 0, 3, 0}, {0, 0, 0, 0}, "there");
  EXPECT_EQ(arrived.size(0), 0);
  expect_traffic(log.all().front(), 1, 0, 24);
  const Tensor back = group->all_to_all(arrived, {0, 0, 0, 0}, {0, 0, 3, 0}, "back");
  EXPECT_TRUE(at::equal(back, at::zeros({3, 2})));
}

TEST(SimulatedCommunicatorTest, CountsThatNobodySendsAreAnError) {
  TrafficLog log;
  const auto group = make_simulated_communicator("expert parallel", {0, 1, 4}, 1, 4, log);
  try {
    group->all_to_all(at::ones({4}), {1, 1, 1, 1}, {1, 1, 2, 1}, "dispatch in layer 3");
    ADD_FAILURE() << "no error";
  } catch (const CommError& error) {
    EXPECT_STREQ(error.what(),
                 "all-to-all, dispatch in layer 3: rank 2 of expert parallel sends 1 rows to rank "
                 "1, which expects 2");
  }
  EXPECT_THROW(group->all_to_all(at::ones({3}), {1, 0, 1, 1}, {1, 1, 1, 1}, "x"), CommError);
}

TEST(SimulatedCommunicatorTest, ABrokenContractIsTold) {
  TrafficLog log;
  const auto group = make_simulated_communicator("expert", {0, 1, 2}, 0, 2, log);
  Tensor columns = at::ones({4, 4}).t().narrow(0, 0, 2), half = at::ones({2}, at::kHalf),
         one = at::ones({1}), three = at::ones({3}), whole = at::ones({2}, at::kDouble);
  EXPECT_THROW(group->all_reduce(columns, ReduceOp::kSum, "columns"), c10::Error);
  EXPECT_THROW(group->all_reduce(half, ReduceOp::kSum, "half"), c10::Error);
  EXPECT_THROW(group->reduce_scatter(three, one, "pieces"), c10::Error);
  EXPECT_THROW(group->reduce_scatter_uneven(three, {1, 1}, one, "pieces"), c10::Error);
  EXPECT_THROW(group->all_gather(one, three, "pieces"), c10::Error);
  EXPECT_THROW(group->all_gather(one, whole, "dtypes"), c10::Error);
  EXPECT_THROW(group->broadcast(one, 2, "root"), c10::Error);
  EXPECT_THROW(group->all_to_all(three, {1, 1}, {1, 1}, "rows"), c10::Error);
}

TEST(SimulatedCommunicatorTest, TensorsNeedNoMemory) {
  TrafficLog log;
  const auto world = make_world(0, log);
  const auto options = at::TensorOptions(at::kMeta).dtype(at::kBFloat16);
  const int64_t n = int64_t{1} << 40;
  Tensor weights = at::empty({n}, options), own = at::empty({n / kRanks}, options);
  world->all_gather(own, weights, "weights");
  world->reduce_scatter(weights, own, "gradients");
  world->all_reduce(weights, ReduceOp::kSum, "gradients");
  EXPECT_EQ(log.bytes_for("weights"), 2 * n / kRanks * (kRanks - 1));
  const std::vector<int64_t> rows(kRanks, int64_t{1} << 20);
  const Tensor sent = at::empty({n / 1024, 4096}, options);
  EXPECT_EQ(world->all_to_all(sent, rows, rows, "dispatch").sizes(), sent.sizes());
  EXPECT_EQ(log.bytes_for("dispatch"), (int64_t{1} << 33) * (kRanks - 1));
}

TEST(SimulatedCommunicatorTest, ACollectiveOfOneRankSendsNothing) {
  TrafficLog log;
  const auto alone = make_simulated_communicator("world", {0, 1, 1}, 0, 8, log);
  Tensor x = at::ones({3}), y = at::zeros({3});
  alone->all_reduce(x, ReduceOp::kSum, "sum");
  alone->all_gather(x, y, "all");
  EXPECT_TRUE(at::equal(alone->all_to_all(x, {3}, {3}, "rows"), at::ones({3})));
  EXPECT_TRUE(at::equal(y, at::ones({3})));
  for (const Traffic& traffic : log.all()) expect_traffic(traffic, 0, 0, 0);
}

TEST(SimulatedMeshTest, HasTheGroupsOfARealOne) {
  TrafficLog log;
  for (const std::string order : {"expert_inner", "data_inner"}) {
    const bool inner = order == "expert_inner";
    const ParallelConfig parallel{16, order, 3};
    const Mesh mesh = make_simulated_mesh(parallel, /*rank=*/100, kRanks, kPerHost, log);
    EXPECT_EQ(mesh.world->rank(), 100);
    EXPECT_EQ(mesh.expert->size(), 16);
    EXPECT_EQ(mesh.data->size(), 64);
    EXPECT_EQ(mesh.expert->rank(), inner ? 4 : 1);
    EXPECT_EQ(mesh.data->rank(), inner ? 6 : 36);
    EXPECT_EQ(mesh.overlap_chunks, 3);
    EXPECT_EQ(mesh.expert->name(), "expert parallel");
    EXPECT_EQ(mesh.data->name(), "expert data parallel");
    const MeshPlace place = place_in_mesh(parallel, 100, kRanks);
    EXPECT_EQ(place.expert, (inner ? Members{96, 1, 16} : Members{36, 64, 16}));
    EXPECT_EQ(place.data, (inner ? Members{4, 16, 64} : Members{64, 1, 64}));
    EXPECT_EQ(place.expert.at(mesh.expert->rank()), 100);
    EXPECT_EQ(place.data.at(mesh.data->rank()), 100);
  }
  EXPECT_THROW(make_simulated_mesh({3}, 0, kRanks, kPerHost, log), ConfigError);
}

}  // namespace
}  // namespace switchyard
