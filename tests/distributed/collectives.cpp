#include "distributed/collectives.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "support/tensors.h"

// W ranks; `r` is a rank.

namespace switchyard {

using at::Tensor;

namespace {

testing::AssertionResult same(const Tensor& actual, const Tensor& expected) {
  return switchyard::same(actual.cpu(), expected.cpu());
}

/// Block b of those that `from` sends to `to`: rows of one element, some blocks empty.
std::vector<int64_t> values_of(int from, int to, int64_t b) {
  std::vector<int64_t> values;
  for (int64_t j = 0; j < (from + 2 * to + b) % 4; ++j)
    values.push_back(1000 * from + 100 * to + 10 * b + j);
  return values;
}

}  // namespace

void CollectiveTest::SetUp() {
  transport_.begin();
  if (IsSkipped()) return;
  world_ = transport_.make_world();
  rank_ = world_->rank();
  size_ = world_->size();
}

void CollectiveTest::TearDown() { transport_.end(); }

Tensor CollectiveTest::from_values(const std::vector<int64_t>& values) const {
  return at::tensor(values, at::kLong).to(dtype_).to(transport_.device());
}

Tensor CollectiveTest::make_values(int64_t count,
                                   const std::function<int64_t(int64_t)>& value) const {
  std::vector<int64_t> values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = value(i);
  return from_values(values);
}

Tensor CollectiveTest::zeros(int64_t count) const {
  return from_values(std::vector<int64_t>(count, 0));
}

std::string name_of_collective(const testing::TestParamInfo<CollectiveTest::ParamType>& info) {
  return c10::toString(std::get<0>(info.param)) + std::get<1>(info.param).name;
}

std::string name_of_transport(const testing::TestParamInfo<Transport>& info) {
  return info.param.name;
}

std::vector<at::ScalarType> travelling_dtypes() {
  return {at::kFloat, at::kBFloat16, at::kDouble, at::kInt, at::kLong, at::kByte};
}

int64_t placed_rows(int from, int to, int64_t b) {
  return static_cast<int64_t>(values_of(from, to, b).size());
}

PlacedBlocks make_placed_blocks(const Communicator& world, int64_t blocks) {
  const int W = world.size(), me = world.rank();
  std::vector<int64_t> send_rows, sent, received;
  PlacedBlocks placed;
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

namespace {

TEST_P(CollectiveTest, AllReduceSumsOverTheRanks) {
  for (const int64_t count : {0, 1, 3, 10}) {
    // Rank r has (r + 1) times 1, 2, 3, 4, 5, 1, ...; the ranks' factors sum to W (W + 1) / 2.
    Tensor x = make_values(count, [&](int64_t i) { return (rank_ + 1) * (i % 5 + 1); });
    world_->all_reduce(x, ReduceOp::kSum, "sum");
    EXPECT_TRUE(same(
        x, make_values(count, [&](int64_t i) { return size_ * (size_ + 1) / 2 * (i % 5 + 1); })));
  }
}

TEST_P(CollectiveTest, AllReduceTakesTheMaximumOverTheRanks) {
  // The largest of element i is on rank i % W, and all of the others are `low`.
  const int64_t low = has_sign() ? -7 : 2;
  Tensor x = make_values(10, [&](int64_t i) { return i % size_ == rank_ ? low + i : low; });
  world_->all_reduce(x, ReduceOp::kMax, "maximum");
  EXPECT_TRUE(same(x, make_values(10, [&](int64_t i) { return low + i; })));
}

TEST_P(CollectiveTest, ReduceScatterGivesEachRankTheSumOfItsPiece) {
  for (const int64_t piece : {0, 1, 3, 5}) {
    // Rank r has (r + 1) times 1, 2, ..., 7, 1, ...; the ranks' factors sum to W (W + 1) / 2.
    const auto summed = make_values(
        piece, [&](int64_t i) { return size_ * (size_ + 1) / 2 * ((rank_ * piece + i) % 7 + 1); });
    const Tensor input =
        make_values(size_ * piece, [&](int64_t i) { return (rank_ + 1) * (i % 7 + 1); });
    Tensor output = zeros(piece);
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
    const Tensor input = make_values(total, [&](int64_t i) { return (rank_ + 1) * (i % 7 + 1); });
    const Tensor before = input.clone();
    Tensor output = zeros(counts[rank_]);
    world_->reduce_scatter_uneven(input, counts, output, "uneven reduce-scatter");
    EXPECT_TRUE(same(input, before));
    EXPECT_TRUE(same(output, make_values(counts[rank_], [&](int64_t i) {
                       return size_ * (size_ + 1) / 2 * ((first + i) % 7 + 1);
                     })));
  }
}

TEST_P(CollectiveTest, AllGatherPutsThePiecesInRankOrder) {
  for (const int64_t piece : {0, 1, 3, 5}) {
    const auto value = [](int64_t r, int64_t i) { return 10 * r + i; };
    const auto all =
        make_values(size_ * piece, [&](int64_t i) { return value(i / piece, i % piece); });
    const Tensor input = make_values(piece, [&](int64_t i) { return value(rank_, i); });
    Tensor output = zeros(size_ * piece);
    world_->all_gather(input, output, "all-gather");
    EXPECT_TRUE(same(output, all));
    output = zeros(size_ * piece);
    const Tensor own = output.narrow(0, rank_ * piece, piece);
    own.copy_(input);
    world_->all_gather(own, output, "all-gather in place");
    EXPECT_TRUE(same(output, all));
  }
}

TEST_P(CollectiveTest, WhatIsStartedIsWhatIsCalledWhenItIsWaitedFor) {
  const int64_t sum = size_ * (size_ + 1) / 2;
  std::vector<int64_t> counts;
  for (int r = 0; r < size_; ++r) counts.push_back((r + 1) % 3);
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0}),
                first = std::accumulate(counts.begin(), counts.begin() + rank_, int64_t{0});
  const auto mine = [&](int64_t i) { return (rank_ + 1) * (i % 5 + 1); };
  const auto summed = [&](int64_t i) { return sum * (i % 5 + 1); };
  Tensor reduced = make_values(7, mine), input = make_values(total, mine),
         gathered = make_values(
             total, [&](int64_t i) { return i >= first && i < first + counts[rank_] ? i + 1 : 0; });
  Tensor own = input.narrow(0, first, counts[rank_]), apart = zeros(counts[rank_]);
  std::vector<std::unique_ptr<UnderWay>> under_way;
  under_way.push_back(world_->start_all_reduce(reduced, ReduceOp::kSum, "sum"));
  under_way.push_back(world_->start_reduce_scatter_uneven(make_values(total, mine), counts, apart,
                                                          "uneven reduce-scatter"));
  under_way.push_back(
      world_->start_reduce_scatter_uneven(input, counts, own, "reduce-scatter in place"));
  under_way.push_back(world_->start_all_gather_uneven(gathered, counts, "uneven all-gather"));
  for (const auto& call : under_way) call->wait();
  EXPECT_TRUE(same(reduced, make_values(7, summed)));
  const Tensor expected = make_values(counts[rank_], [&](int64_t i) { return summed(first + i); });
  EXPECT_TRUE(same(apart, expected));
  EXPECT_TRUE(same(own, expected));
  EXPECT_TRUE(same(gathered, make_values(total, [](int64_t i) { return i + 1; })));
}

TEST_P(CollectiveTest, BroadcastTakesTheRootsValues) {
  for (int root = 0; root < size_; ++root) {
    for (const int64_t count : {0, 1, 10}) {
      const auto of_rank = [&](int r) {
        return make_values(count, [&](int64_t i) { return 16 * r + i; });
      };
      Tensor x = of_rank(rank_);
      world_->broadcast(x, root, "broadcast");
      EXPECT_TRUE(same(x, of_rank(root)));
    }
  }
}

/// Rows that rank `from` sends to rank `to`.
using Counts = std::function<int64_t(int from, int to)>;

struct Plan {
  const char* what;
  Counts counts;
};

std::vector<Plan> plans(int size) {
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
  for (const Plan& plan : plans(size_)) {
    std::vector<int64_t> send, recv, sent, expected;
    for (int peer = 0; peer < size_; ++peer) {
      send.push_back(plan.counts(rank_, peer));
      recv.push_back(plan.counts(peer, rank_));
      for (int64_t j = 0; j < send.back(); ++j) sent.push_back(row_value(rank_, peer, j));
      for (int64_t j = 0; j < recv.back(); ++j) expected.push_back(row_value(peer, rank_, j));
    }
    for (const auto& row_shape : row_shapes) {
      const auto rows_of = [&](const std::vector<int64_t>& values) {
        std::vector<int64_t> ones(row_shape.size() + 1, 1), shape(row_shape);
        ones[0] = static_cast<int64_t>(values.size());
        shape.insert(shape.begin(), ones[0]);
        return from_values(values).view(ones).expand(shape).contiguous();
      };
      const Tensor output = world_->all_to_all(rows_of(sent), send, recv, "exchange");
      EXPECT_TRUE(same(output, rows_of(expected)))
          << plan.what << ", rows of " << row_shape.size() << " dimensions";
    }
  }
}

TEST_P(TransportTest, AllToAllMovesDistinctColumns) {
  const auto world = GetParam().make_world();
  const int size = world->size();
  const std::vector<int64_t> four_each(size, 4);
  // Row r of rank s is s, r, and their product.
  const Tensor r_R = at::arange(4 * size, at::kFloat);
  const Tensor s_R = at::full_like(r_R, world->rank());
  const Tensor rows_R3 = here(at::stack({s_R, r_R, s_R * r_R}, /*dim=*/1));
  const Tensor received = world->all_to_all(rows_R3, four_each, four_each, "exchange");
  const Tensor from_R = at::arange(size, at::kFloat).repeat_interleave(4);
  const Tensor row_R = (4 * world->rank() + at::arange(4, at::kFloat)).repeat({size});
  EXPECT_TRUE(same(received, at::stack({from_R, row_R, from_R * row_R}, /*dim=*/1)));
}

TEST_P(TransportTest, AllToAllAndBackIsTheIdentity) {
  const auto world = GetParam().make_world();
  std::vector<int64_t> send, recv;
  for (int peer = 0; peer < world->size(); ++peer) {
    send.push_back((world->rank() + peer) % 3);
    recv.push_back((peer + world->rank()) % 3);
  }
  const int64_t rows = std::accumulate(send.begin(), send.end(), int64_t{0});
  const Tensor x = here(at::arange(rows * 5, at::kFloat).view({rows, 5}));
  const Tensor there = world->all_to_all(x, send, recv, "there");
  EXPECT_TRUE(same(world->all_to_all(there, recv, send, "back"), x));
}

TEST_P(TransportTest, Bfloat16PairsAreSummedInFloat32) {
  // 256 + 1 lies between two bfloat16 numbers and rounds to the even one, 256; a sum
  // that lost the low bits of its operands first would give something else.
  const auto world = GetParam().make_world();
  if (world->size() != 2) return;
  Tensor x = here(at::tensor(world->rank() == 0 ? std::vector<double>{256, 256, 1.0 / 3}
                                                : std::vector<double>{1, 3, 2.0 / 3})
                      .to(at::kBFloat16));
  world->all_reduce(x, ReduceOp::kSum, "sum");
  EXPECT_TRUE(same(x, at::tensor(std::vector<double>{256, 260, 1}).to(at::kBFloat16)));
}

TEST_P(TransportTest, NotANumberReachesEveryRank) {
  const auto world = GetParam().make_world();
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    Tensor x = at::ones({3}, dtype);
    if (world->rank() == world->size() - 1) x[1] = std::numeric_limits<double>::quiet_NaN();
    x = here(x);
    world->all_reduce(x, ReduceOp::kSum, "sum");
    EXPECT_TRUE(std::isnan(x[1].item<double>())) << dtype;
    EXPECT_EQ(x[0].item<double>(), world->size()) << dtype;
  }
}

TEST_P(TransportTest, BlocksGoStraightIntoTheirPlacesAndBack) {
  const auto world = GetParam().make_world();
  for (const int64_t blocks : {1, 2, 5}) {
    const PlacedBlocks placed = make_placed_blocks(*world, blocks);
    Tensor there = here(at::full_like(placed.received, -1)),
           back = here(at::full_like(placed.sent, -1));
    const Tensor sent = here(placed.sent);
    world->start_all_to_all(sent, placed.send, there, placed.recv, "there")->wait();
    EXPECT_TRUE(same(there, placed.received));
    world->start_all_to_all(there, placed.recv, back, placed.send, "back")->wait();
    EXPECT_TRUE(same(back, placed.sent));
  }
}

TEST_P(TransportTest, SeveralExchangesAreUnderWayAtOnce) {
  const auto world = GetParam().make_world();
  std::vector<PlacedBlocks> placed;
  std::vector<Tensor> there;
  std::vector<std::unique_ptr<UnderWay>> under_way;
  for (const int64_t blocks : {3, 1, 2, 3}) {
    placed.push_back(make_placed_blocks(*world, blocks));
    there.push_back(here(at::zeros_like(placed.back().received)));
    under_way.push_back(world->start_all_to_all(here(placed.back().sent), placed.back().send,
                                                there.back(), placed.back().recv, "chunk"));
  }
  world->barrier("another collective between");
  for (const size_t i : {2, 0, 3, 1}) {
    under_way[i]->wait();
    EXPECT_TRUE(same(there[i], placed[i].received)) << i;
  }
}

TEST_P(TransportTest, ABrokenContractIsToldBeforeAnythingIsSent) {
  const auto world = GetParam().make_world();
  const int size = world->size();
  Tensor columns = here(at::ones({4, 4})).t().narrow(0, 0, 2),
         half = here(at::ones({2}, at::kHalf));
  EXPECT_THROW(world->all_reduce(columns, ReduceOp::kSum, "columns"), c10::Error);
  EXPECT_THROW(world->all_reduce(half, ReduceOp::kSum, "half"), c10::Error);
  Tensor too_long = here(at::ones({size + 1})), one = here(at::ones({1}));
  EXPECT_THROW(world->reduce_scatter(too_long, one, "pieces"), c10::Error);
  EXPECT_THROW(world->all_gather(one, too_long, "pieces"), c10::Error);
  const std::vector<int64_t> one_each(size, 1), none(size, 0);
  EXPECT_THROW(world->reduce_scatter_uneven(too_long, one_each, one, "pieces"), c10::Error);
  Tensor all = here(at::ones({size}));
  EXPECT_THROW(world->start_all_gather_uneven(too_long, one_each, "pieces"), c10::Error);
  EXPECT_THROW(world->reduce_scatter_uneven(all, none, one, "pieces"), c10::Error);
  Tensor whole = here(at::ones({size}, at::kDouble));
  EXPECT_THROW(world->all_gather(one, whole, "dtypes"), c10::Error);
  const std::vector<int64_t> ones(size, 1), too_many(size + 1, 1);
  EXPECT_THROW(world->all_to_all(too_long, ones, ones, "rows"), c10::Error);
  EXPECT_THROW(world->all_to_all(too_long, too_many, too_many, "ranks"), c10::Error);
  const RowBlocks fits{one_each, one_each}, outside{one_each, std::vector<int64_t>(size, 2)},
      uneven{too_many, too_many};
  const auto start = [&](const RowBlocks& send, Tensor& output, const RowBlocks& recv) {
    world->start_all_to_all(here(at::ones({2})), send, output, recv, "blocks");
  };
  Tensor two = here(at::ones({2})), two_doubles = here(at::ones({2}, at::kDouble)),
         wide = here(at::ones({2, 3}));
  EXPECT_THROW(start(outside, two, fits), c10::Error);
  EXPECT_THROW(start(fits, two, outside), c10::Error);
  EXPECT_THROW(start(fits, two_doubles, fits), c10::Error);
  EXPECT_THROW(start(fits, wide, fits), c10::Error);
  EXPECT_THROW(start(uneven, two, fits), c10::Error);
}

}  // namespace
}  // namespace switchyard
