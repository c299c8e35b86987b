#include "moe/routers/recurrent_router.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, D model width, P width of the state.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t D = 4, E = 5, P = 3;

RecurrentRouter router_of(int64_t state_size = P, double jitter_eps = 0) {
  RouterConfig config;
  config.type = "recurrent";
  config.recurrent.hidden_size = state_size;
  config.jitter_eps = jitter_eps;
  return {config, place_of(D, E, 2)};
}

/// W1, W2 and the GRU's four.
std::vector<Tensor> sample_weights(const char* layer = "") {
  const auto draw = [&](std::vector<int64_t> shape, const char* name) {
    return normal_tensor(std::move(shape), std::string(name) + layer);
  };
  return {draw({P, D}, "W1"),
          draw({E, P}, "W2"),
          normal_tensor({3 * P, P}, "ih"),
          normal_tensor({3 * P, P}, "hh"),
          normal_tensor({3 * P}, "bias ih"),
          normal_tensor({3 * P}, "bias hh")};
}

Routing route(const Tensor& x_TD, const std::vector<Tensor>& weights,
              const Tensor& memory_TP = {}) {
  TokenContext context = context_of(1, x_TD.size(0));
  context.memory_TP = memory_TP;
  return router_of(weights[0].size(0)).route(x_TD, {weights, {}}, context);
}

/// torch.nn.GRUCell's documented formula, gate by gate.
Tensor gru_by_hand(const Tensor& x_TP, const Tensor& h_TP, const std::vector<Tensor>& weights) {
  const auto part = [&](int64_t gate, size_t weight, size_t bias, const Tensor& in) {
    return at::matmul(in, weights[weight].narrow(0, gate * P, P).t()) +
           weights[bias].narrow(0, gate * P, P);
  };
  const Tensor r = (part(0, 2, 4, x_TP) + part(0, 3, 5, h_TP)).sigmoid();
  const Tensor z = (part(1, 2, 4, x_TP) + part(1, 3, 5, h_TP)).sigmoid();
  const Tensor n = (part(2, 2, 4, x_TP) + r * part(2, 3, 5, h_TP)).tanh();
  return (1 - z) * n + z * h_TP;
}

TEST(RecurrentRouterTest, R11_TheStateIsThatOfAGruCell) {
  const std::vector<Tensor> weights = sample_weights();
  for (int i = 0; i < 5; ++i) {
    const std::string name = std::to_string(i);
    const Tensor x_TD = normal_tensor({30, D}, "hidden states" + name);
    const Tensor before_TP = i == 0 ? Tensor() : normal_tensor({30, P}, "memory" + name);
    const Routing routing = route(x_TD, weights, before_TP);
    const Tensor input_TP = at::matmul(x_TD, weights[0].t());
    const Tensor expected_TP =
        gru_by_hand(input_TP, i == 0 ? at::zeros({30, P}, at::kDouble) : before_TP, weights);
    EXPECT_TRUE(near(routing.memory_TP, expected_TP, 1e-12));
    const Tensor logits_TE = at::matmul(expected_TP, weights[1].t());
    const auto [best_TK, ids_TK] = logits_TE.topk(2, 1);
    EXPECT_TRUE(near(routing.logits_TE, logits_TE, 1e-12));
    EXPECT_TRUE(same(routing.experts_TK, ids_TK));
    EXPECT_TRUE(near(routing.weights_TK, best_TK.softmax(1), 1e-12));
  }
}

// The gates' order in the weights: an update gate of 1 keeps the old state, one of 0 takes the
// new, a reset gate of 0 hides the old one from it.
TEST(RecurrentRouterTest, R11_TheGatesAreResetUpdateNew) {
  std::vector<Tensor> weights = sample_weights();
  const Tensor x_TD = normal_tensor({8, D}, "hidden states"),
               h_TP = normal_tensor({8, P}, "memory");
  for (const size_t i : {2, 3}) weights[i].narrow(0, 0, 2 * P).zero_();
  weights[4].zero_();
  weights[5].zero_();
  weights[4].narrow(0, P, P).fill_(50);
  EXPECT_TRUE(near(route(x_TD, weights, h_TP).memory_TP, h_TP, 1e-12));
  weights[4].narrow(0, P, P).fill_(-50);
  weights[4].narrow(0, 0, P).fill_(-50);
  const Tensor new_TP =
      at::matmul(at::matmul(x_TD, weights[0].t()), weights[2].narrow(0, 2 * P, P).t()).tanh();
  EXPECT_TRUE(near(route(x_TD, weights, h_TP).memory_TP, new_TP, 1e-12));
}

// An update gate of 0 and tanh where it is straight: r = c x', and W2 / c undoes the c.
TEST(RecurrentRouterTest, R11_WithAnIdentityForAGruItIsTheLinearRouter) {
  constexpr double kSmall = 1e-5;
  std::vector<Tensor> weights = sample_weights();
  weights[0] = normal_tensor({D, D}, "W1");
  const Tensor gate_ED = normal_tensor({E, D}, "gate");
  weights[1] = gate_ED / kSmall;
  weights[2] = at::cat({at::zeros({2 * D, D}, at::kDouble), kSmall * at::eye(D, at::kDouble)});
  weights[3] = at::zeros({3 * D, D}, at::kDouble);
  weights[4] = at::zeros({3 * D}, at::kDouble);
  weights[4].narrow(0, D, D).fill_(-60);
  weights[5] = at::zeros({3 * D}, at::kDouble);
  const Tensor x_TD = normal_tensor({40, D}, "hidden states");
  const Routing routing = route(x_TD, weights, normal_tensor({40, D}, "memory"));
  const RouterTensors linear{{at::matmul(gate_ED, weights[0])}, {}};
  RouterConfig topk;
  const Routing expected =
      make_router(topk, place_of(D, E, 2))->route(x_TD, linear, context_of(1, 40));
  EXPECT_TRUE(near(routing.logits_TE, expected.logits_TE, 1e-7));
  EXPECT_TRUE(same(routing.experts_TK, expected.experts_TK));
  EXPECT_TRUE(near(routing.weights_TK, expected.weights_TK, 1e-7));
}

// Two layers, one GRU: its gradient is the sum of both uses, and the second layer's loss
// reaches the first one's W1 but not its W2.
TEST(RecurrentRouterTest, R11_GradientsOfTwoLayersMatchFiniteDifferences) {
  const std::vector<Tensor> first = sample_weights("0"), second = sample_weights("1");
  const TensorFunction both = [](const auto& in) {
    const Routing one = route(in[0], {in[1], in[2], in[5], in[6], in[7], in[8]});
    const Routing two =
        route(in[0].sin(), {in[3], in[4], in[5], in[6], in[7], in[8]}, one.memory_TP);
    return at::cat({one.weights_TK, two.weights_TK, two.probs_TE, two.memory_TP}, 1);
  };
  const std::vector<Tensor> inputs = {normal_tensor({4, D}, "hidden states"),
                                      first[0],
                                      first[1],
                                      second[0],
                                      second[1],
                                      first[2],
                                      first[3],
                                      first[4],
                                      first[5]};
  EXPECT_TRUE(gradients_match(both, inputs, 1e-7));

  const TensorFunction last = [&](const auto& in) {
    const Routing one = route(inputs[0], {in[0], in[1], first[2], first[3], first[4], first[5]});
    return route(inputs[0], second, one.memory_TP).weights_TK;
  };
  Tensor w1 = first[0].clone().set_requires_grad(true),
         w2 = first[1].clone().set_requires_grad(true);
  (last({w1, w2}) * normal_tensor({4, 2}, "weight of the outputs")).sum().backward();
  EXPECT_GT(w1.grad().abs().min().item<double>(), 0);
  EXPECT_FALSE(w2.grad().defined());
}

TEST(RecurrentRouterTest, R11_TheGradientAtTheMemoryMatchesFiniteDifferences) {
  const std::vector<Tensor> weights = sample_weights();
  const TensorFunction f = [&](const auto& in) {
    const Routing routing = route(in[0], weights, in[1]);
    return at::cat({routing.logits_TE, routing.memory_TP}, 1);
  };
  EXPECT_TRUE(gradients_match(
      f, {normal_tensor({6, D}, "hidden states"), normal_tensor({6, P}, "memory")}, 1e-7));
}

TEST(RecurrentRouterTest, R11_TheMemoryIsItsTokens) {
  const std::vector<Tensor> weights = sample_weights();
  const Tensor x_TD = normal_tensor({30, D}, "hidden states"),
               memory_TP = normal_tensor({30, P}, "memory");
  const Tensor order_T = normal_tensor({30}, "order").argsort();
  const Routing plain = route(x_TD, weights, memory_TP);
  const Routing permuted =
      route(x_TD.index_select(0, order_T), weights, memory_TP.index_select(0, order_T));
  EXPECT_TRUE(near(permuted.memory_TP, plain.memory_TP.index_select(0, order_T), 1e-12));
  EXPECT_TRUE(same(permuted.experts_TK, plain.experts_TK.index_select(0, order_T)));
  EXPECT_FALSE(at::allclose(route(x_TD, weights, memory_TP.index_select(0, order_T)).logits_TE,
                            plain.logits_TE));
}

TEST(RecurrentRouterTest, R11_SharesItsGruAndStartsAsTorchDoes) {
  MoeConfig config = sample_moe_config(2);
  config.router.type = "recurrent";
  config.router.recurrent.hidden_size = 16;
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), config, mesh);
  for (const char* name : {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}) {
    const Tensor weight = moe.weight(std::string("model.router.gru.") + name);
    EXPECT_EQ(weight.size(0), 48);
    EXPECT_LE(weight.abs().max().item<float>(), 0.25F) << name;  // 1 / sqrt(16)
    EXPECT_GT(weight.abs().max().item<float>(), 0.2F) << name;
  }
  EXPECT_EQ(moe.weight("gate.input.weight").sizes(), (std::vector<int64_t>{16, 6}));
  EXPECT_EQ(moe.weight("gate.weight").sizes(), (std::vector<int64_t>{8, 16}));
}

TEST(RecurrentRouterTest, R11_DoesNotKnowTheLayout) {
  const RecurrentRouter router = router_of(P, /*jitter_eps=*/0.2);
  const RouterTensors tensors{sample_weights(), {}};
  const Tensor x_TD = normal_tensor({50, D}, "hidden states"),
               memory_TP = normal_tensor({50, P}, "memory");
  const auto piece = [&](int64_t first, int64_t count) {
    TokenContext context = context_of(count, 10, first);
    context.memory_TP = memory_TP.narrow(0, first * 10, count * 10);
    return router.route(x_TD.narrow(0, first * 10, count * 10), tensors, context);
  };
  const Routing whole = piece(0, 5), first = piece(0, 2), rest = piece(2, 3);
  EXPECT_TRUE(same(at::cat({first.experts_TK, rest.experts_TK}), whole.experts_TK));
  EXPECT_TRUE(near(at::cat({first.weights_TK, rest.weights_TK}), whole.weights_TK, 1e-12));
  EXPECT_TRUE(near(at::cat({first.memory_TP, rest.memory_TP}), whole.memory_TP, 1e-12));
}

TEST(RecurrentRouterTest, R11_RoutesBfloat16InFloat32AndNoTokens) {
  std::vector<Tensor> half, full;
  for (const Tensor& weight : sample_weights()) {
    half.push_back(weight.to(at::kBFloat16));
    full.push_back(half.back().to(at::kFloat));
  }
  const Tensor x_TD = normal_tensor({9, D}, "hidden states").to(at::kBFloat16);
  EXPECT_TRUE(same(route(x_TD, half).logits_TE, route(x_TD.to(at::kFloat), full).logits_TE));
  const Routing none =
      route(at::empty({0, D}, at::kDouble), sample_weights(), at::empty({0, P}, at::kDouble));
  EXPECT_EQ(none.experts_TK.sizes(), (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(none.memory_TP.sizes(), (std::vector<int64_t>{0, P}));
}

}  // namespace
}  // namespace switchyard
