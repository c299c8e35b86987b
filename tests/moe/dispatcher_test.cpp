#include "moe/dispatcher.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, K experts per token, R rows for the experts.

namespace switchyard {
namespace {

using at::Tensor;

// Three tokens 1, 2, 3 to experts (3 0), (0 1), (3 1); the last pair is not kept.
const std::vector<int64_t> kExperts = {3, 0, 0, 1, 3, 1}, kKept = {1, 1, 1, 1, 1, 0};

struct Sent {
  std::unique_ptr<Communicator> group = make_solo_communicator("expert parallel");
  Dispatcher dispatcher{*group, /*num_experts=*/4};
  Tensor x_TD;
  Dispatched sent;
  Tensor rows_RD;

  explicit Sent(at::ScalarType dtype)
      : x_TD(at::tensor({1.0, 2.0, 3.0}, at::kFloat).view({3, 1}).to(dtype)),
        sent(dispatcher.order(at::tensor(kExperts, at::kLong).view({3, 2}),
                              bools(kKept).view({3, 2}))),
        rows_RD(dispatcher.send(x_TD, sent)) {}
};

TEST(DispatcherTest, RowsAreSortedByExpertAndKeepTheOrderOfTokens) {
  const Sent sent(at::kFloat);
  EXPECT_EQ(sent.sent.rows_L, (std::vector<int64_t>{2, 1, 0, 2}));
  EXPECT_TRUE(same(sent.rows_RD, at::tensor({1.0, 2.0, 2.0, 1.0, 3.0}, at::kFloat).view({5, 1})));
}

TEST(DispatcherTest, IdsTravelWithTheirRows) {
  const Tensor ids_TK = at::arange(10, 16).view({3, 2});
  const Sent sent(at::kFloat);
  EXPECT_TRUE(same(sent.dispatcher.send_ids(ids_TK, sent.sent),
                   at::tensor({11, 12, 13, 10, 14}, at::kLong)));
}

TEST(DispatcherTest, CombineWeighsAndSkipsWhatWasNotKept) {
  const Sent sent(at::kFloat);
  const Tensor weights_TK = at::tensor({0.5, 0.25, 1.0, 0.0, 2.0, 7.0}, at::kFloat).view({3, 2});
  const Tensor y_RD =
      sent.rows_RD * at::tensor({10.0, 10.0, 100.0, 1.0, 1.0}, at::kFloat).view({5, 1});
  // 0.5 * 1 + 0.25 * 10, 1 * 20 + 0 * 200, 2 * 3.
  EXPECT_TRUE(same(sent.dispatcher.combine(y_RD, sent.sent, weights_TK),
                   at::tensor({3.0, 20.0, 6.0}, at::kFloat).view({3, 1})));
}

TEST(DispatcherTest, ApplyIsSendAndCombineAroundTheExperts) {
  const Sent sent(at::kFloat);
  const Tensor weights_TK = at::tensor({0.5, 0.25, 1.0, 0.0, 2.0, 7.0}, at::kFloat).view({3, 2});
  const auto square = [&](const Tensor& rows_RD, const std::vector<int64_t>& rows_L,
                          int64_t first_row) {
    EXPECT_EQ(rows_L, sent.sent.rows_L);
    EXPECT_EQ(first_row, 0);
    return rows_RD * rows_RD;
  };
  EXPECT_TRUE(same(sent.dispatcher.apply(square, sent.x_TD, sent.sent, weights_TK),
                   at::tensor({0.75, 4.0, 18.0}, at::kFloat).view({3, 1})));
}

TEST(DispatcherTest, RefusesExpertsThatDoNotShareOut) {
  class Three final : public Communicator {
   public:
    Three() : Communicator(0, 3, "three") {}
    void all_reduce(Tensor& /*x*/, ReduceOp /*op*/, const char* /*purpose*/) override {}
    void reduce_scatter(const Tensor& /*in*/, Tensor& /*out*/, const char* /*purpose*/) override {}
    void reduce_scatter_uneven(const Tensor& /*in*/, const std::vector<int64_t>& /*counts*/,
                               Tensor& /*out*/, const char* /*purpose*/) override {}
    void all_gather(const Tensor& /*in*/, Tensor& /*out*/, const char* /*purpose*/) override {}
    void broadcast(Tensor& /*x*/, int /*root*/, const char* /*purpose*/) override {}
    std::unique_ptr<UnderWay> start_all_to_all(const Tensor& /*in*/, const RowBlocks& /*send*/,
                                               Tensor& /*out*/, const RowBlocks& /*recv*/,
                                               const char* /*purpose*/) override {
      return nullptr;
    }
    void barrier(const char* /*purpose*/) override {}
  };
  Three group;
  EXPECT_THROW(Dispatcher(group, 8), c10::Error);
  EXPECT_NO_THROW(Dispatcher(group, 9));
}

}  // namespace
}  // namespace switchyard
