#include "ops/chunked_exchange.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "ops/all_to_all.h"
#include "support/mpi_main.h"
#include "support/tensors.h"

// Runs at W = 1, 2, 4. Every rank sends rows to each in kBlocks blocks, which are kChunks chunks.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t kBlocks = 5, kChunks = 3, kWidth = 3;

int64_t first_block(int64_t chunk) { return chunk * kBlocks / kChunks; }

/// Rows of block b from one rank to another; some blocks and some pairs have none.
int64_t rows_of(int from, int to, int64_t b) { return from == 1 ? 0 : (from + 2 * to + 3 * b) % 4; }

struct Places {
  RowBlocks send, recv;  // of all rows at once
  std::vector<ChunkBlocks> chunks;
};

Places make_places() {
  const int me = test_runtime().rank(), W = test_runtime().world_size();
  std::vector<int64_t> send, recv(W * kBlocks), begin(W * kBlocks);
  for (int peer = 0; peer < W; ++peer) {
    for (int64_t b = 0; b < kBlocks; ++b) send.push_back(rows_of(me, peer, b));
  }
  int64_t next = 0;
  for (int64_t b = 0; b < kBlocks; ++b) {
    for (int peer = 0; peer < W; ++peer) {
      recv[peer * kBlocks + b] = rows_of(peer, me, b);
      begin[peer * kBlocks + b] = next;
      next += rows_of(peer, me, b);
    }
  }
  Places places{RowBlocks::in_order(send), {recv, begin}, {}};
  for (int64_t c = 0; c < kChunks; ++c) {
    ChunkBlocks& chunk = places.chunks.emplace_back();
    const int64_t from = places.recv.begin[first_block(c)];
    for (int peer = 0; peer < W; ++peer) {
      for (int64_t b = first_block(c); b < first_block(c + 1); ++b) {
        const int64_t i = peer * kBlocks + b;
        chunk.whole.rows.push_back(places.send.rows[i]);
        chunk.whole.begin.push_back(places.send.begin[i]);
        chunk.part.rows.push_back(recv[i]);
        chunk.part.begin.push_back(begin[i] - from);
      }
    }
  }
  return places;
}

/// What is computed of rows where they arrive: a function of the row and of the rank.
Tensor compute(const Tensor& rows_RD) {
  return rows_RD.square() * static_cast<float>(test_runtime().rank() + 2);
}

Tensor at_once(const Tensor& x_SD, const Places& places, Communicator& group) {
  const Tensor rows_RD = all_to_all_rows(x_SD, places.send, places.recv, group, "there");
  return all_to_all_rows(compute(rows_RD), places.recv, places.send, group, "back");
}

Tensor in_chunks(const Tensor& x_SD, const Places& places, Communicator& group) {
  ScatteredRows there(x_SD, places.chunks, group, "there");
  GatheredRows back(places.chunks, group, "back");
  for (int64_t c = 0; c < kChunks; ++c) back.send(c, compute(there.wait(c)));
  return back.wait();
}

TEST(ChunkedExchangeTest, ThereAndBackIsTheExchangeAtOnceForwardAndBackward) {
  const Mesh mesh = test_runtime().make_mesh({});
  const Places places = make_places();
  const Tensor rows = normal_tensor({places.send.total(), kWidth}, "rows", at::kFloat);
  const Tensor weights = normal_tensor({places.send.total(), kWidth}, "weights", at::kFloat);
  std::vector<Tensor> values, gradients;
  for (const auto& exchange : {at_once, in_chunks}) {
    Tensor x_SD = rows.clone().set_requires_grad(true);
    const Tensor y_SD = exchange(x_SD, places, *mesh.world);
    ASSERT_TRUE(y_SD.requires_grad());
    (y_SD * weights).sum().backward();
    values.push_back(y_SD.detach());
    gradients.push_back(x_SD.grad());
  }
  EXPECT_TRUE(same(values[1], values[0]));
  EXPECT_TRUE(same(gradients[1], gradients[0]));
  EXPECT_EQ(gradients[1].numel() > 0, values[1].abs().sum().item<float>() > 0);
}

TEST(ChunkedExchangeTest, WithoutAGradientNothingIsKept) {
  const Mesh mesh = test_runtime().make_mesh({});
  const Places places = make_places();
  const Tensor rows = normal_tensor({places.send.total(), kWidth}, "rows", at::kFloat);
  const Tensor y_SD = in_chunks(rows, places, *mesh.world);
  EXPECT_FALSE(y_SD.requires_grad());
  EXPECT_TRUE(same(y_SD, at_once(rows, places, *mesh.world)));
}

}  // namespace
}  // namespace switchyard
