#include "distributed/mpi_communicator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <numeric>
#include <thread>
#include <tuple>

#include "base/error.h"
#include "distributed/mpi_calls.h"
#include "support/mpi_main.h"
#include "support/tensors.h"

// W ranks; `r` is a rank. Every test runs at W = 1, 2, 4, 8, and its values are
// integers that every dtype holds exactly, in any order of summation.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t kAtOnce = INT32_MAX;
constexpr int64_t kInRounds = 3;

std::unique_ptr<Communicator> make_world(int64_t round_limit) {
  return make_mpi_communicator(MPI_COMM_WORLD, /*color=*/0, test_runtime().rank(), "world",
                               round_limit);
}

Tensor from_values(const std::vector<int64_t>& values, at::ScalarType dtype) {
  return at::tensor(values, at::kLong).to(dtype);
}

/// `count` values, the i-th being value(i).
Tensor make_values(int64_t count, at::ScalarType dtype,
                   const std::function<int64_t(int64_t)>& value) {
  std::vector<int64_t> values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = value(i);
  return from_values(values, dtype);
}

/// Every collective with every dtype, each call at once and in rounds of three.
class CollectiveTest : public testing::TestWithParam<std::tuple<at::ScalarType, int64_t>> {
 protected:
  CollectiveTest()
      : dtype_(std::get<0>(GetParam())),
        limit_(std::get<1>(GetParam())),
        world_(make_world(limit_)),
        rank_(world_->rank()),
        size_(world_->size()) {
    forget_mpi_counts();
  }
  ~CollectiveTest() override { EXPECT_LE(largest_mpi_count(), limit_); }

  bool has_sign() const { return dtype_ != at::kByte; }

  const at::ScalarType dtype_;
  const int64_t limit_;
  const std::unique_ptr<Communicator> world_;
  const int rank_, size_;
};

TEST_P(CollectiveTest, AllReduceSumsOverTheRanks) {
  for (const int64_t count : {0, 1, 3, 10}) {
    // Rank r has (r + 1) times 1, 2, 3, 4, 5, 1, ...; the ranks' factors sum to W (W + 1) / 2.
    Tensor x = make_values(count, dtype_, [&](int64_t i) { return (rank_ + 1) * (i % 5 + 1); });
    world_->all_reduce(x, ReduceOp::kSum, "sum");
    EXPECT_TRUE(same(x, make_values(count, dtype_, [&](int64_t i) {
                       return size_ * (size_ + 1) / 2 * (i % 5 + 1);
                     })));
  }
}

TEST_P(CollectiveTest, AllReduceTakesTheMaximumOverTheRanks) {
  // The largest of element i is on rank i % W, and all of the others are `low`.
  const int64_t low = has_sign() ? -7 : 2;
  Tensor x = make_values(10, dtype_, [&](int64_t i) { return i % size_ == rank_ ? low + i : low; });
  world_->all_reduce(x, ReduceOp::kMax, "maximum");
  EXPECT_TRUE(same(x, make_values(10, dtype_, [&](int64_t i) { return low + i; })));
}

TEST_P(CollectiveTest, ReduceScatterGivesEachRankTheSumOfItsPiece) {
  for (const int64_t piece : {0, 1, 3, 5}) {
    // Rank r has (r + 1) times 1, 2, ..., 7, 1, ...; the ranks' factors sum to W (W + 1) / 2.
    const auto summed = make_values(piece, dtype_, [&](int64_t i) {
      return size_ * (size_ + 1) / 2 * ((rank_ * piece + i) % 7 + 1);
    });
    const Tensor input =
        make_values(size_ * piece, dtype_, [&](int64_t i) { return (rank_ + 1) * (i % 7 + 1); });
    Tensor output = at::zeros({piece}, dtype_);
    const Tensor before = input.clone();
    world_->reduce_scatter(input, output, "reduce-scatter");
    EXPECT_TRUE(same(input, before));
    EXPECT_TRUE(same(output, summed));
    Tensor own = input.narrow(0, rank_ * piece, piece);
    world_->reduce_scatter(input, own, "reduce-scatter in place");
    EXPECT_TRUE(same(own, summed));
  }
}

TEST_P(CollectiveTest, ReduceScatterUnevenGivesEachRankTheSumOfItsOwnLength) {
  const std::vector<std::function<int64_t(int)>> lengths = {
      [](int r) { return r % 3; },                            // some ranks get nothing
      [&](int r) { return r == size_ - 1 ? 7 : 0; },          // one rank gets all of it
      [](int) { return 0; }, [](int r) { return 2 * r + 1; }  // nobody; everybody another
  };
  for (const auto& length : lengths) {
    std::vector<int64_t> counts;
    for (int r = 0; r < size_; ++r) counts.push_back(length(r));
    const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0}),
                  first = std::accumulate(counts.begin(), counts.begin() + rank_, int64_t{0});
    const Tensor input =
        make_values(total, dtype_, [&](int64_t i) { return (rank_ + 1) * (i % 7 + 1); });
    const Tensor before = input.clone();
    Tensor output = at::zeros({counts[rank_]}, dtype_);
    world_->reduce_scatter_uneven(input, counts, output, "uneven reduce-scatter");
    EXPECT_TRUE(same(input, before));
    EXPECT_TRUE(same(output, make_values(counts[rank_], dtype_, [&](int64_t i) {
                       return size_ * (size_ + 1) / 2 * ((first + i) % 7 + 1);
                     })));
  }
}

TEST_P(CollectiveTest, AllGatherPutsThePiecesInRankOrder) {
  for (const int64_t piece : {0, 1, 3, 5}) {
    const auto value = [](int64_t r, int64_t i) { return 10 * r + i; };
    const auto all =
        make_values(size_ * piece, dtype_, [&](int64_t i) { return value(i / piece, i % piece); });
    const Tensor input = make_values(piece, dtype_, [&](int64_t i) { return value(rank_, i); });
    Tensor output = at::zeros({size_ * piece}, dtype_);
    world_->all_gather(input, output, "all-gather");
    EXPECT_TRUE(same(output, all));
    output = at::zeros({size_ * piece}, dtype_);
    const Tensor own = output.narrow(0, rank_ * piece, piece);
    own.copy_(input);
    world_->all_gather(own, output, "all-gather in place");
    EXPECT_TRUE(same(output, all));
  }
}

TEST_P(CollectiveTest, BroadcastTakesTheRootsValues) {
  for (int root = 0; root < size_; ++root) {
    for (const int64_t count : {0, 1, 10}) {
      const auto of_rank = [&](int r) {
        return make_values(count, dtype_, [&](int64_t i) { return 16 * r + i; });
      };
      Tensor x = of_rank(rank_);
      world_->broadcast(x, root, "broadcast");
      EXPECT_TRUE(same(x, of_rank(root)));
    }
  }
}

/// Rows that rank `from` sends to rank `to`.
using Counts = std::function<int64_t(int from, int to)>;

struct Traffic {
  const char* what;
  Counts counts;
};

std::vector<Traffic> traffics(int size) {
  return {
      {"one row for each", [](int, int) { return 1; }},
      {"uneven, some zero", [](int from, int to) { return (from + 2 * to) % 5; }},
      {"all from the last rank to the first",
       [size](int from, int to) { return from == size - 1 && to == 0 ? 7 : 0; }},
      {"rank 0 sends nothing", [](int from, int to) { return from == 0 ? 0 : to + 1; }},
      {"rank 0 receives nothing", [](int from, int to) { return to == 0 ? 0 : from + 1; }},
      {"only what stays", [](int from, int to) { return from == to ? from + 3 : 0; }},
      {"nothing", [](int, int) { return 0; }},
  };
}

/// Row j of what `from` sends to `to`: below 256 and telling which row it is.
int64_t row_value(int from, int to, int64_t j) { return (8 * from + to + 64 * j) % 256; }

TEST_P(CollectiveTest, AllToAllDeliversEveryRowInOrder) {
  const std::vector<std::vector<int64_t>> row_shapes = {{}, {3}, {2, 2}};
  for (const Traffic& traffic : traffics(size_)) {
    std::vector<int64_t> send, recv, sent, expected;
    for (int peer = 0; peer < size_; ++peer) {
      send.push_back(traffic.counts(rank_, peer));
      recv.push_back(traffic.counts(peer, rank_));
      for (int64_t j = 0; j < send.back(); ++j) sent.push_back(row_value(rank_, peer, j));
      for (int64_t j = 0; j < recv.back(); ++j) expected.push_back(row_value(peer, rank_, j));
    }
    for (const auto& row_shape : row_shapes) {
      const auto rows_of = [&](const std::vector<int64_t>& values) {
        std::vector<int64_t> ones(row_shape.size() + 1, 1), shape(row_shape);
        ones[0] = static_cast<int64_t>(values.size());
        shape.insert(shape.begin(), ones[0]);
        return from_values(values, dtype_).view(ones).expand(shape).contiguous();
      };
      const Tensor output = world_->all_to_all(rows_of(sent), send, recv, "exchange");
      EXPECT_TRUE(same(output, rows_of(expected)))
          << traffic.what << ", rows of " << row_shape.size() << " dimensions";
    }
  }
}

std::string name_of(const testing::TestParamInfo<CollectiveTest::ParamType>& info) {
  const auto [dtype, limit] = info.param;
  return std::string(c10::toString(dtype)) + (limit == kAtOnce ? "AtOnce" : "InRounds");
}

INSTANTIATE_TEST_SUITE_P(Mpi, CollectiveTest,
                         testing::Combine(testing::Values(at::kFloat, at::kBFloat16, at::kDouble,
                                                          at::kInt, at::kLong, at::kByte),
                                          testing::Values(kAtOnce, kInRounds)),
                         name_of);

TEST(MpiCommunicatorTest, AllToAllMovesDistinctColumns) {
  const auto world = make_world(kAtOnce), rounds = make_world(kInRounds);
  const int size = world->size();
  const std::vector<int64_t> four_each(size, 4);
  // Row r of rank s is s, r, and their product.
  const Tensor r_R = at::arange(4 * size, at::kFloat);
  const Tensor s_R = at::full_like(r_R, world->rank());
  const Tensor rows_R3 = at::stack({s_R, r_R, s_R * r_R}, /*dim=*/1);
  const Tensor received = world->all_to_all(rows_R3, four_each, four_each, "exchange");
  const Tensor from_R = at::arange(size, at::kFloat).repeat_interleave(4);
  const Tensor row_R = (4 * world->rank() + at::arange(4, at::kFloat)).repeat({size});
  EXPECT_TRUE(same(received, at::stack({from_R, row_R, from_R * row_R}, /*dim=*/1)));
  EXPECT_TRUE(same(rounds->all_to_all(rows_R3, four_each, four_each, "exchange"), received));
}

TEST(MpiCommunicatorTest, AllToAllAndBackIsTheIdentity) {
  const auto world = make_world(kAtOnce);
  std::vector<int64_t> send, recv;
  for (int peer = 0; peer < world->size(); ++peer) {
    send.push_back((world->rank() + peer) % 3);
    recv.push_back((peer + world->rank()) % 3);
  }
  const int64_t rows = std::accumulate(send.begin(), send.end(), int64_t{0});
  const Tensor x = at::arange(rows * 5, at::kFloat).view({rows, 5});
  const Tensor there = world->all_to_all(x, send, recv, "there");
  EXPECT_TRUE(same(world->all_to_all(there, recv, send, "back"), x));
}

TEST(MpiCommunicatorTest, Bfloat16PairsAreSummedInFloat32) {
  // 256 + 1 lies between two bfloat16 numbers and rounds to the even one, 256; a sum
  // that lost the low bits of its operands first would give something else.
  const auto world = make_world(kAtOnce);
  if (world->size() != 2) return;
  Tensor x = at::tensor(world->rank() == 0 ? std::vector<double>{256, 256, 1.0 / 3}
                                           : std::vector<double>{1, 3, 2.0 / 3})
                 .to(at::kBFloat16);
  world->all_reduce(x, ReduceOp::kSum, "sum");
  EXPECT_TRUE(same(x, at::tensor(std::vector<double>{256, 260, 1}).to(at::kBFloat16)));
}

TEST(MpiCommunicatorTest, NotANumberReachesEveryRank) {
  const auto world = make_world(kAtOnce);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    Tensor x = at::ones({3}, dtype);
    if (world->rank() == world->size() - 1) x[1] = std::numeric_limits<double>::quiet_NaN();
    world->all_reduce(x, ReduceOp::kSum, "sum");
    EXPECT_TRUE(std::isnan(x[1].item<double>())) << dtype;
    EXPECT_EQ(x[0].item<double>(), world->size()) << dtype;
  }
}

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

/// Block b of those that `from` sends to `to`: rows of one element, some blocks empty.
std::vector<int64_t> values_of(int from, int to, int64_t b) {
  std::vector<int64_t> values;
  for (int64_t j = 0; j < (from + 2 * to + b) % 4; ++j)
    values.push_back(1000 * from + 100 * to + 10 * b + j);
  return values;
}

/// What this rank sends: blocks in order. And what it receives: blocks for their places, block b
/// of all ranks before block b + 1 of any, as rows for experts stand.
struct Placed {
  RowBlocks send, recv;
  Tensor sent, received;
};

Placed make_placed(const Communicator& world, int64_t blocks) {
  const int W = world.size(), me = world.rank();
  std::vector<int64_t> send_rows, sent, received;
  Placed placed;
  placed.recv = {std::vector<int64_t>(W * blocks), std::vector<int64_t>(W * blocks)};
  for (int peer = 0; peer < W; ++peer) {
    for (int64_t b = 0; b < blocks; ++b) {
      const auto values = values_of(me, peer, b);
      send_rows.push_back(static_cast<int64_t>(values.size()));
      sent.insert(sent.end(), values.begin(), values.end());
    }
  }
  for (int64_t b = 0; b < blocks; ++b) {
    for (int peer = 0; peer < W; ++peer) {
      const auto values = values_of(peer, me, b);
      placed.recv.rows[peer * blocks + b] = static_cast<int64_t>(values.size());
      placed.recv.begin[peer * blocks + b] = static_cast<int64_t>(received.size());
      received.insert(received.end(), values.begin(), values.end());
    }
  }
  placed.send = RowBlocks::in_order(send_rows);
  placed.sent = at::tensor(sent, at::kLong);
  placed.received = at::tensor(received, at::kLong);
  return placed;
}

TEST(MpiCommunicatorTest, BlocksGoStraightIntoTheirPlacesAndBack) {
  for (const int64_t limit : {kAtOnce, int64_t{2}}) {
    const auto world = make_world(limit);
    for (const int64_t blocks : {1, 2, 5}) {
      const Placed placed = make_placed(*world, blocks);
      Tensor there = at::full_like(placed.received, -1), back = at::full_like(placed.sent, -1);
      world->start_all_to_all(placed.sent, placed.send, there, placed.recv, "there")->wait();
      EXPECT_TRUE(same(there, placed.received));
      world->start_all_to_all(there, placed.recv, back, placed.send, "back")->wait();
      EXPECT_TRUE(same(back, placed.sent));
    }
  }
}

TEST(MpiCommunicatorTest, SeveralExchangesAreUnderWayAtOnce) {
  const auto world = make_world(kAtOnce);
  std::vector<Placed> placed;
  std::vector<Tensor> there;
  std::vector<std::unique_ptr<RowsUnderWay>> under_way;
  for (const int64_t blocks : {3, 1, 2, 3}) {
    placed.push_back(make_placed(*world, blocks));
    there.push_back(at::zeros_like(placed.back().received));
    under_way.push_back(world->start_all_to_all(placed.back().sent, placed.back().send,
                                                there.back(), placed.back().recv, "chunk"));
  }
  world->barrier("another collective between");
  for (const size_t i : {2, 0, 3, 1}) {
    under_way[i]->wait();
    EXPECT_TRUE(same(there[i], placed[i].received)) << i;
  }
}

TEST(MpiCommunicatorTest, OnlyTimeInsideAnExchangeCounts) {
  const auto world = make_world(kAtOnce);
  const Placed placed = make_placed(*world, 2);
  Tensor there = at::zeros_like(placed.received);
  const auto begin = std::chrono::steady_clock::now();
  const auto rows = world->start_all_to_all(placed.sent, placed.send, there, placed.recv, "there");
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  rows->wait();
  const std::chrono::duration<double, std::milli> all = std::chrono::steady_clock::now() - begin;
  EXPECT_GT(world->milliseconds(), 0);
  EXPECT_LE(world->milliseconds(), all.count() - 100);
  int64_t own = 0;
  for (const int64_t b : {0, 1})
    own += static_cast<int64_t>(values_of(world->rank(), world->rank(), b).size());
  EXPECT_EQ(world->exchanged_bytes(), 8 * (placed.send.total() - own));
}

TEST(MpiCommunicatorTest, AnExchangeThatIsGivenUpHarmsNoLaterOne) {
  const auto world = make_world(kAtOnce);
  const Placed placed = make_placed(*world, 2);
  Tensor there = at::zeros_like(placed.received);
  world->start_all_to_all(placed.sent, placed.send, there, placed.recv, "given up").reset();
  world->start_all_to_all(placed.sent, placed.send, there, placed.recv, "there")->wait();
  EXPECT_TRUE(same(there, placed.received));
}

TEST(MpiCommunicatorTest, ABrokenContractIsToldBeforeAnythingIsSent) {
  const auto world = make_world(kAtOnce);
  const int size = world->size();
  Tensor columns = at::ones({4, 4}).t().narrow(0, 0, 2), half = at::ones({2}, at::kHalf);
  EXPECT_THROW(world->all_reduce(columns, ReduceOp::kSum, "columns"), c10::Error);
  EXPECT_THROW(world->all_reduce(half, ReduceOp::kSum, "half"), c10::Error);
  Tensor too_long = at::ones({size + 1}), one = at::ones({1});
  EXPECT_THROW(world->reduce_scatter(too_long, one, "pieces"), c10::Error);
  EXPECT_THROW(world->all_gather(one, too_long, "pieces"), c10::Error);
  const std::vector<int64_t> one_each(size, 1), none(size, 0);
  EXPECT_THROW(world->reduce_scatter_uneven(too_long, one_each, one, "pieces"), c10::Error);
  Tensor all = at::ones({size});
  EXPECT_THROW(world->reduce_scatter_uneven(all, none, one, "pieces"), c10::Error);
  Tensor whole = at::ones({size}, at::kDouble);
  EXPECT_THROW(world->all_gather(one, whole, "dtypes"), c10::Error);
  const std::vector<int64_t> ones(size, 1), too_many(size + 1, 1);
  EXPECT_THROW(world->all_to_all(too_long, ones, ones, "rows"), c10::Error);
  EXPECT_THROW(world->all_to_all(too_long, too_many, too_many, "ranks"), c10::Error);
  const RowBlocks fits{one_each, one_each}, outside{one_each, std::vector<int64_t>(size, 2)},
      uneven{too_many, too_many};
  const auto start = [&](const RowBlocks& send, Tensor& output, const RowBlocks& recv) {
    world->start_all_to_all(at::ones({2}), send, output, recv, "blocks");
  };
  Tensor two = at::ones({2}), two_doubles = at::ones({2}, at::kDouble), wide = at::ones({2, 3});
  EXPECT_THROW(start(outside, two, fits), c10::Error);
  EXPECT_THROW(start(fits, two, outside), c10::Error);
  EXPECT_THROW(start(fits, two_doubles, fits), c10::Error);
  EXPECT_THROW(start(fits, wide, fits), c10::Error);
  EXPECT_THROW(start(uneven, two, fits), c10::Error);
}

}  // namespace
}  // namespace switchyard
