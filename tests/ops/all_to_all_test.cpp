#include "ops/all_to_all.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>

#include "support/mpi_main.h"
#include "support/tensors.h"

// Runs at W = 1, 2, 4. Row j that rank `from` sends to rank `to` holds
// 100 from + 10 to + j in its first column and ten thousand times that in its second.

namespace switchyard {
namespace {

using at::Tensor;
using Counts = std::function<int64_t(int from, int to)>;

struct Exchange {
  RowBlocks send, recv;
  Tensor sent, received;  // what this rank sends, and what must arrive
};

Exchange make_exchange(const Counts& counts, at::ScalarType dtype) {
  const int me = test_runtime().rank(), W = test_runtime().world_size();
  Exchange exchange;
  std::vector<int64_t> send, recv;
  std::vector<double> sent, received;
  const auto add_rows = [&](std::vector<double>& rows, int from, int to) {
    for (int64_t j = 0; j < counts(from, to); ++j) {
      const auto value = static_cast<double>(100 * from + 10 * to + j);
      rows.insert(rows.end(), {value, 10000 * value});
    }
  };
  for (int peer = 0; peer < W; ++peer) {
    send.push_back(counts(me, peer));
    recv.push_back(counts(peer, me));
    add_rows(sent, me, peer);
    add_rows(received, peer, me);
  }
  exchange.send = RowBlocks::in_order(send);
  exchange.recv = RowBlocks::in_order(recv);
  exchange.sent = at::tensor(sent, at::kDouble).view({-1, 2}).to(dtype);
  exchange.received = at::tensor(received, at::kDouble).view({-1, 2}).to(dtype);
  return exchange;
}

const std::vector<Counts> kTraffics = {
    [](int from, int to) { return (from + 2 * to) % 4 + 1; },
    [](int from, int to) { return from == 0 ? 0 : to + 1; },        // rank 0 sends nothing
    [](int from, int to) { return to == 0 ? 0 : from + 1; },        // and receives nothing
    [](int from, int to) { return from == 0 || to == 0 ? 0 : 2; },  // and neither
    [](int /*from*/, int to) { return to == 0 ? 3 : 0; },           // all to one
    [](int /*from*/, int /*to*/) { return 0; },
};

TEST(AllToAllRowsTest, ForwardIsTheExchange) {
  const Mesh mesh = test_runtime().make_mesh({});
  for (const Counts& counts : kTraffics) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
      const Exchange exchange = make_exchange(counts, dtype);
      EXPECT_TRUE(
          same(all_to_all_rows(exchange.sent, exchange.send, exchange.recv, *mesh.world, "forward"),
               exchange.received));
    }
  }
}

TEST(AllToAllRowsTest, BackwardIsTheExchangeWithTheCountsSwapped) {
  // A gradient that tells (from, to, row) at the receiver comes back to that row.
  const Mesh mesh = test_runtime().make_mesh({});
  for (const Counts& counts : kTraffics) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
      const Exchange exchange = make_exchange(counts, dtype);
      Tensor x_SD = at::zeros_like(exchange.sent).set_requires_grad(true);
      const Tensor y_RD =
          all_to_all_rows(x_SD, exchange.send, exchange.recv, *mesh.world, "backward");
      ASSERT_TRUE(y_RD.requires_grad());
      y_RD.backward(exchange.received);
      ASSERT_TRUE(x_SD.grad().defined());
      EXPECT_TRUE(same(x_SD.grad(), exchange.sent));
    }
  }
}

TEST(AllToAllRowsTest, ARankWithoutRowsStillEntersBackward) {
  // Rank 0 has no rows either way; were it to leave backward out, the others would wait.
  const Mesh mesh = test_runtime().make_mesh({});
  const Exchange exchange =
      make_exchange([](int from, int to) { return from == 0 || to == 0 ? 0 : 1; }, at::kFloat);
  Tensor scale = at::full({}, 3.0F).set_requires_grad(true);
  const Tensor there =
      all_to_all_rows(exchange.sent * scale, exchange.send, exchange.recv, *mesh.world, "there");
  const Tensor back =
      all_to_all_rows(there * scale, exchange.recv, exchange.send, *mesh.world, "back");
  ASSERT_TRUE(back.requires_grad());
  back.sum().backward();
  ASSERT_TRUE(scale.grad().defined());
  // d/ds of s^2 x is 2 s x, summed over this rank's rows: half there, half of the way back.
  const Tensor sums = exchange.sent.sum() * 3 + exchange.received.sum() * 3;
  EXPECT_TRUE(near(scale.grad(), sums, 1e-6));
}

TEST(AllToAllRowsTest, AGradientThatIsNotContiguousIsExchangedToo) {
  const Mesh mesh = test_runtime().make_mesh({});
  const Exchange exchange = make_exchange(kTraffics[0], at::kFloat);
  Tensor x_SD = exchange.sent.clone().set_requires_grad(true);
  all_to_all_rows(x_SD, exchange.send, exchange.recv, *mesh.world, "rows").sum().backward();
  EXPECT_TRUE(same(x_SD.grad(), at::ones_like(x_SD)));
}

TEST(AllToAllRowsTest, EachExpertGroupExchangesByItself) {
  const int W = test_runtime().world_size();
  if (W < 2) return;
  const Mesh mesh = test_runtime().make_mesh({2, "expert_inner"});
  Tensor x_SD = at::full({2, 1}, static_cast<float>(test_runtime().rank())).set_requires_grad(true);
  const Tensor y_RD = all_to_all_rows(x_SD, RowBlocks::in_order({1, 1}),
                                      RowBlocks::in_order({1, 1}), *mesh.expert, "in the group");
  const auto first = static_cast<float>(test_runtime().rank() / 2 * 2);
  EXPECT_TRUE(same(y_RD.detach(), at::tensor(std::vector<float>{first, first + 1}).view({2, 1})));
  (y_RD * static_cast<float>(mesh.expert_rank() + 1)).sum().backward();
  EXPECT_TRUE(same(x_SD.grad(), at::tensor(std::vector<float>{1, 2}).view({2, 1})));
}

}  // namespace
}  // namespace switchyard
