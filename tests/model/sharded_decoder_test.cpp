#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "loss/cross_entropy.h"
#include "model/sample_decoder.h"
#include "moe/router_losses.h"
#include "support/mpi_main.h"
#include "support/tensors.h"

// Runs at W = 1, 2, 4: the whole model on any layout against one process.

namespace switchyard {
namespace {

using at::Tensor;

MoeConfig sharded_moe() {
  MoeConfig moe = small_moe();
  moe.shared_experts = {1, 5, true};
  moe.capacity.factor = 1.0;
  moe.capacity.min = 1;
  moe.router.jitter_eps = 0.05;
  return moe;
}

ModelConfig sharded_model() {
  ModelConfig model = small_model();
  model.dropout = 0.1;
  model.qk_norm = "head";
  return model;
}

/// Calls `body(mesh)` for every layout of this world.
template <class Body>
void for_each_layout(const Body& body) {
  for (int64_t EP = 1; EP <= test_runtime().world_size(); EP *= 2) {
    for (const char* order : {"expert_inner", "data_inner"}) {
      SCOPED_TRACE("EP " + std::to_string(EP) + ", " + order);
      const Mesh mesh = test_runtime().make_mesh({EP, order});
      body(mesh);
    }
  }
}

TEST(ShardedDecoderTest, WeightsStartTheSameOnAnyLayout) {
  const Mesh solo = solo_mesh();
  const SampleDecoder whole(sharded_model(), sharded_moe(), solo);
  const auto expected = whole.parts();
  for_each_layout([&](const Mesh& mesh) {
    const SampleDecoder sample(sharded_model(), sharded_moe(), mesh);
    for (const auto& [name, placed] : sample.parts()) {
      EXPECT_TRUE(same(sample.store.weight_of(placed), whole.store.weight_of(expected.at(name))))
          << name;
    }
  });
}

/// Loss of sequences [first, first + count) of `total`, its gradients in the store.
double run(SampleDecoder& sample, const MoeConfig& moe, const Tensor& tokens_BS, int64_t first,
           int64_t count) {
  const int64_t total = tokens_BS.size(0), S = tokens_BS.size(1);
  DecoderInput input = input_of(tokens_BS.narrow(0, first, count), Mode::kTrain);
  input.order_B = at::arange(first, first + count, at::kLong);
  sample.store.zero_gradients();
  const DecoderOutput output = sample.decoder.forward(input);
  const Tensor targets_T = (input.tokens_BS * 7 + 3).remainder(kVocabulary).reshape({-1});
  const auto N = static_cast<double>(total * S);
  const Tensor loss = cross_entropy_sum(sample.decoder.logits(output.hidden_TD), targets_T) / N +
                      router_losses(output.routers, moe, {}, N).objective;
  loss.backward();
  return loss.item<double>();
}

void expect_gradients_of_one_process(const std::function<int64_t(int rank)>& share,
                                     const MoeConfig& moe = sharded_moe()) {
  const int rank = test_runtime().rank();
  int64_t first = 0, total = 0;
  for (int r = 0; r < test_runtime().world_size(); ++r) {
    if (r < rank) first += share(r);
    total += share(r);
  }
  const Tensor tokens_BS = sample_tokens(total, 7);
  const Mesh solo = solo_mesh();
  SampleDecoder whole(sharded_model(), moe, solo);
  const double expected_loss = run(whole, moe, tokens_BS, 0, total);
  const auto expected = whole.parts();
  for_each_layout([&](const Mesh& mesh) {
    SampleDecoder sample(sharded_model(), moe, mesh);
    Tensor loss = at::full({1}, run(sample, moe, tokens_BS, first, share(rank)), at::kDouble);
    mesh.world->all_reduce(loss, ReduceOp::kSum, "loss of the test");
    EXPECT_NEAR(loss.item<double>(), expected_loss, 1e-5 * expected_loss);
    for (const auto& [name, placed] : sample.parts()) {
      Tensor gradient = sample.store.gradient_of(placed).clone();
      const bool dense = placed.kind == ParameterKind::kDense;
      (dense ? mesh.world : mesh.data)->all_reduce(gradient, ReduceOp::kSum, "test gradient");
      EXPECT_TRUE(near(gradient, whole.store.gradient_of(expected.at(name)), 1e-5)) << name;
    }
  });
}

TEST(ShardedDecoderTest, GradientsOfEqualSharesAreThoseOfOneProcess) {
  expect_gradients_of_one_process([](int) { return 2; });
}

TEST(ShardedDecoderTest, GradientsWithSequencesOnOneRankOnlyAreThoseOfOneProcess) {
  const int last = test_runtime().world_size() - 1;
  expect_gradients_of_one_process([](int rank) { return rank == 0 ? 3 : 0; });
  expect_gradients_of_one_process([last](int rank) { return rank == last ? 3 : 0; });
}

// The state of the routers goes from layer to layer in the order of the tokens, whatever the
// dispatch between them does; their GRU is one parameter, replicated as all dense ones are.
TEST(ShardedDecoderTest, R11_TheRecurrentStateStaysWithItsToken) {
  MoeConfig moe = sharded_moe();
  moe.router.type = "recurrent";
  moe.router.recurrent.hidden_size = 5;
  expect_gradients_of_one_process([](int) { return 2; }, moe);
  expect_gradients_of_one_process([](int rank) { return rank == 0 ? 3 : 0; }, moe);
}

// Generation: rank 0 has the sequence, the others only serve their experts.
TEST(ShardedDecoderTest, LogitsWithACacheAreThoseOfTheFullForward) {
  const Tensor tokens_BS = sample_tokens(1, 10);
  const Mesh solo = solo_mesh();
  const Tensor expected =
      SampleDecoder(sharded_model(), sharded_moe(), solo).logits(input_of(tokens_BS));
  const int64_t mine = test_runtime().rank() == 0 ? 1 : 0;
  for_each_layout([&](const Mesh& mesh) {
    const SampleDecoder sample(sharded_model(), sharded_moe(), mesh);
    KvCache cache;
    std::vector<Tensor> pieces;
    for (const auto& [begin, count] : {std::pair{0, 6}, {6, 1}, {7, 1}, {8, 1}, {9, 1}}) {
      const Tensor piece = tokens_BS.narrow(0, 0, mine).narrow(1, begin, count);
      pieces.push_back(sample.logits(input_of(piece), &cache));
    }
    EXPECT_EQ(cache.length, 10);
    EXPECT_TRUE(near(at::cat(pieces, 1), expected.narrow(0, 0, mine), 1e-5));
  });
}

}  // namespace
}  // namespace switchyard
