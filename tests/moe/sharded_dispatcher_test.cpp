#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "moe/dispatcher.h"
#include "support/mpi_main.h"
#include "support/tensors.h"
#include "support/watched_communicator.h"

// Runs at W = 1, 2, 4, 8.

namespace switchyard {
namespace {

using at::Tensor;

using Notes = std::vector<std::string>;

/// x itself; notes when backward comes by.
Tensor noted_backward(const Tensor& x, Notes& notes) {
  Tensor y = x * 1;
  y.register_hook([&notes](const Tensor& /*gradient*/) { notes.emplace_back("beside"); });
  return y;
}

/// Two tokens of each rank, each to two of as many experts as ranks and one more of each.
TEST(ShardedDispatcherTest, WhatIsBesideRunsWhileRowsAreOnTheirWay) {
  const int world = test_runtime().world_size();
  Notes notes;
  const Mesh mesh = watched<NotedCommunicator>(test_runtime().make_mesh({.expert = world}), notes);
  const int64_t E = 2 * world;
  const Tensor experts_TK =
      (at::arange(4, at::kLong) * 3 + test_runtime().rank()).remainder(E).view({2, 2});
  const Tensor weights_TK = at::full({2, 2}, 0.5F);
  const auto square = [](const Tensor& rows_RD, const std::vector<int64_t>& /*rows_L*/,
                         int64_t /*first_row*/) { return rows_RD * rows_RD; };
  for (const int64_t chunks : {1, 2}) {
    SCOPED_TRACE(chunks);
    const Dispatcher dispatcher(*mesh.expert, E, chunks);
    const Dispatched sent = dispatcher.order(experts_TK, at::ones({2, 2}, at::kBool));
    std::vector<Tensor> values, gradients;
    for (const bool is_beside : {false, true}) {
      Tensor x_TD = normal_tensor({2, 3}, "tokens", at::kFloat).set_requires_grad(true);
      Tensor other_TD;
      const auto other = [&] {
        notes.emplace_back("beside");
        other_TD = noted_backward(x_TD, notes).sin();
      };
      notes.clear();
      const Tensor y_TD = dispatcher.apply(square, x_TD, sent, weights_TK, {},
                                           is_beside ? other : std::function<void()>());
      if (!is_beside) other();
      const Notes forward = std::exchange(notes, {});
      ((y_TD + other_TD) * (y_TD + other_TD)).sum().backward();
      values.push_back((y_TD + other_TD).detach());
      gradients.push_back(x_TD.grad());
      if (!is_beside || world == 1) continue;
      const std::string there = "dispatch of tokens", back = "return of tokens";
      if (chunks == 1) {
        EXPECT_EQ(forward, (Notes{"+ " + there, "beside", "- " + there, "+ " + back, "- " + back}));
        EXPECT_EQ(notes, (Notes{"+ " + back, "- " + back, "+ " + there, "beside", "- " + there}));
      } else {
        EXPECT_EQ(forward, (Notes{"+ " + there, "+ " + there, "beside", "- " + there, "+ " + back,
                                  "- " + there, "+ " + back, "- " + back, "- " + back}));
        EXPECT_EQ(notes, (Notes{"+ " + back, "+ " + back, "- " + back, "+ " + there, "- " + back,
                                "+ " + there, "beside", "- " + there, "- " + there}));
      }
    }
    EXPECT_TRUE(same(values[1], values[0]));
    EXPECT_TRUE(same(gradients[1], gradients[0]));
  }
}

}  // namespace
}  // namespace switchyard
