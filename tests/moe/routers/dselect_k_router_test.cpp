#include "moe/routers/dselect_k_router.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, L selectors, M bits, D model width.

namespace switchyard {
namespace {

using at::Tensor;

/// The router's sizes and its two knobs.
struct Case {
  int64_t E = 8, L = 2;
  double gamma = 1.0, entropy_coef = 0.1;

  int64_t bits() const { return E <= 2 ? 1 : E <= 4 ? 2 : E <= 8 ? 3 : E <= 16 ? 4 : 5; }
  DSelectKRouter router(int64_t hidden_size) const {
    RouterConfig config;
    config.type = "dselect_k";
    config.dselect_k.gamma = gamma;
    config.dselect_k.entropy_coef = entropy_coef;
    return {config, place_of(hidden_size, E, L)};
  }
};

/// Weights that make the selectors' logits the first L columns of x and their numbers z the
/// next L * M.
RouterTensors columns(const Case& sizes) {
  const int64_t L = sizes.L, LM = sizes.L * sizes.bits();
  const Tensor eye = at::eye(L + LM, at::kDouble);
  return {{eye.narrow(0, 0, L), eye.narrow(0, L, LM), at::zeros({LM}, at::kDouble)}, {}};
}

Routing route(const Case& sizes, const Tensor& x_TD) {
  return sizes.router(x_TD.size(1)).route(x_TD, columns(sizes), context_of(1, x_TD.size(0)));
}

/// q (T, E) in the order of the experts.
Tensor dense(const Routing& routing) {
  return at::zeros_like(routing.weights_TK)
      .scatter(1, routing.experts_TK, routing.weights_TK * routing.kept_TK);
}

/// (selectors' logits, z) for T tokens: z normal, times `width`.
Tensor sample_columns(const Case& sizes, int64_t T, double width, const char* name = "columns") {
  const Tensor x_TD = normal_tensor({T, sizes.L * (1 + sizes.bits())}, name);
  return at::cat(
      {x_TD.narrow(1, 0, sizes.L), width * x_TD.narrow(1, sizes.L, x_TD.size(1) - sizes.L)}, 1);
}

TEST(SmoothStepTest, R5_AtPointsKnownByHand) {
  for (const double gamma : {0.25, 1.0, 3.0}) {
    const Tensor t = gamma * at::tensor({-9.0, -0.5, -0.25, 0.0, 0.25, 0.5, 9.0}, at::kDouble);
    const Tensor expected = at::tensor({0.0, 0.0, 5.0 / 32, 0.5, 27.0 / 32, 1.0, 1.0}, at::kDouble);
    EXPECT_TRUE(near(smooth_step(t, gamma), expected, 1e-15)) << gamma;
    EXPECT_EQ(smooth_step(t, gamma)[1].item<double>(), 0);
    EXPECT_EQ(smooth_step(t, gamma)[5].item<double>(), 1);
    // S' = 3/(2 gamma) - 6 t^2 / gamma^3 inside, 0 outside and at the knots.
    const auto slope = gradients_of([&](const auto& in) { return smooth_step(in[0], gamma); }, {t},
                                    at::ones_like(t));
    const Tensor slopes = at::tensor({0.0, 0.0, 1.125, 1.5, 1.125, 0.0, 0.0}, at::kDouble) / gamma;
    EXPECT_TRUE(near(slope[0], slopes, 1e-12)) << gamma;
  }
}

TEST(SmoothStepTest, R5_IsOnceDifferentiableAtItsKnots) {
  for (const double gamma : {0.5, 1.0, 2.0}) {
    const TensorFunction step = [&](const auto& in) { return smooth_step(in[0], gamma); };
    // Central differences over a knot are off by the second derivative's jump times the step.
    EXPECT_TRUE(gradients_match(step, {gamma * at::tensor({-0.5, 0.5}, at::kDouble)}, 1e-3));
    EXPECT_TRUE(gradients_match(step, {at::linspace(-1, 1, 12, at::kDouble) * gamma}));
  }
}

TEST(SmoothStepTest, R5_IsNeitherNegativeNorAboveOneNearItsKnots) {
  const Tensor t = at::linspace(-0.5, -0.499, 4001, at::kFloat);
  EXPECT_GE(smooth_step(t, 1.0).min().item<float>(), 0);
  EXPECT_LE(smooth_step(-t, 1.0).max().item<float>(), 1);
}

/// q and the regularizer of one token by loops over experts, selectors and bits.
struct ByHand {
  std::vector<double> q;
  double regularizer = 0;
};

ByHand by_hand(const Case& sizes, const double* x) {
  const auto step = [&](double t) {
    if (t <= -sizes.gamma / 2) return 0.0;
    if (t >= sizes.gamma / 2) return 1.0;
    return -2 / std::pow(sizes.gamma, 3) * t * t * t + 3 / (2 * sizes.gamma) * t + 0.5;
  };
  const int64_t M = sizes.bits();
  double total = 0;
  for (int64_t l = 0; l < sizes.L; ++l) total += std::exp(x[l]);
  ByHand result{std::vector<double>(sizes.E, 0.0), 0};
  for (int64_t l = 0; l < sizes.L; ++l) {
    double reachable = 0;
    for (int64_t i = 0; i < sizes.E; ++i) {
      double r = 1;
      int64_t rest = i;
      for (int64_t j = M - 1; j >= 0; --j, rest /= 2) {
        const double s = step(x[sizes.L + l * M + j]);
        r *= rest % 2 == 1 ? s : 1 - s;
      }
      result.q[i] += std::exp(x[l]) / total * r;
      result.regularizer -= sizes.entropy_coef * r * std::log(r + 1e-6);
      reachable += r;
    }
    if (sizes.E != int64_t{1} << M) result.regularizer += 1 / std::max(reachable, 1e-6);
  }
  return result;
}

TEST(DSelectKRouterTest, R5_EqualsLoopsOnRandomCases) {
  int64_t tokens = 0, decided = 0;
  for (const int64_t E : {2, 3, 4, 5, 6, 8, 9, 16, 17}) {
    for (const int64_t L : {1, 2, 3}) {
      for (const double gamma : {0.5, 2.0}) {
        const Case sizes{E, L, gamma, 0.1};
        const Tensor x_TD = sample_columns(sizes, 9, 0.7);
        x_TD[0].zero_();  // all experts tie
        const Routing routing = route(sizes, x_TD);
        const Tensor q_TE = dense(routing);
        for (int64_t t = 0; t < 9; ++t, ++tokens) {
          const ByHand expected = by_hand(sizes, x_TD[t].contiguous().data_ptr<double>());
          EXPECT_TRUE(near(q_TE[t], at::tensor(expected.q, at::kDouble), 1e-12));
          EXPECT_NEAR(routing.regularizer_T[t].item<double>(), expected.regularizer,
                      1e-9 * std::max(1.0, expected.regularizer));
          for (int64_t i = 0; i < E; ++i) decided += expected.q[i] == 0;
        }
      }
    }
  }
  EXPECT_GE(tokens, 400);
  EXPECT_GT(decided, 100) << "no expert was ever left out";
}

/// The codes of eight experts, most significant bit first.
constexpr const char* kCodes[] = {"000", "001", "010", "011", "100", "101", "110", "111"};

TEST(DSelectKRouterTest, R5_SaturatedSelectorsNameTheExpertOfTheirCode) {
  for (const int64_t E : {5, 8}) {
    const Case sizes{E, 1};
    for (int64_t i = 0; i < E; ++i) {
      Tensor x_1D = at::zeros({1, 4}, at::kDouble);
      for (int64_t j = 0; j < 3; ++j) x_1D[0][1 + j] = kCodes[i][j] == '1' ? 0.5 : -0.5;
      const Tensor expected = at::zeros({1, E}, at::kDouble);
      expected[0][i] = 1;
      const Routing routing = route(sizes, x_1D);
      EXPECT_TRUE(same(dense(routing), expected));
      EXPECT_EQ(routing.experts_TK[0][0].item<int64_t>(), i);
      EXPECT_EQ(routing.kept_TK.sum().item<int64_t>(), 1);
      // What is left of the regularizer: log(1 + 1e-6), and 1 for a sum of 1.
      EXPECT_NEAR(routing.regularizer_T.item<double>(), E == 8 ? 0 : 1, 1e-6);
    }
  }
}

TEST(DSelectKRouterTest, R5_TheWeightsSumToOneWhereEveryCodeNamesAnExpert) {
  for (const int64_t E : {2, 4, 8, 16}) {
    const Routing routing = route({E, 3}, sample_columns({E, 3}, 40, 0.4));
    EXPECT_TRUE(near(routing.weights_TK.sum(1), at::ones({40}, at::kDouble), 1e-12));
    EXPECT_TRUE(near(routing.probs_TE.sum(1), at::ones({40}, at::kDouble), 1e-12));
    EXPECT_TRUE(near(routing.logits_TE.logsumexp(1), at::zeros({40}, at::kDouble), 1e-12));
  }
  const Routing routing = route({6, 2}, sample_columns({6, 2}, 40, 0.3));
  EXPECT_LT(routing.weights_TK.sum(1).min().item<double>(), 0.99);
  EXPECT_TRUE(near(routing.probs_TE.sum(1), at::ones({40}, at::kDouble), 1e-12));
  EXPECT_TRUE(near(routing.logits_TE.softmax(1), routing.probs_TE, 1e-12));
}

TEST(DSelectKRouterTest, R5_AtMostKExpertsOnceTheSelectorsHaveDecided) {
  for (const int64_t L : {1, 2, 3}) {
    const Tensor x_TD = sample_columns({8, L}, 60, 1.0);
    x_TD.narrow(1, L, 3 * L).sign_();
    const Routing routing = route({8, L}, x_TD);
    const Tensor chosen_T = routing.kept_TK.sum(1);
    EXPECT_LE(chosen_T.max().item<int64_t>(), L);
    EXPECT_EQ(chosen_T.max().item<int64_t>(), L);
    // Best first, and what is not chosen weighs nothing.
    EXPECT_TRUE(
        same(std::get<0>(routing.weights_TK.sort(1, /*descending=*/true)), routing.weights_TK));
    EXPECT_EQ((routing.weights_TK * routing.kept_TK.logical_not()).abs().max().item<double>(), 0);
  }
}

TEST(DSelectKRouterTest, R5_TiesGoToTheLowerExpert) {
  const Routing routing = route({8, 2}, at::zeros({3, 8}, at::kDouble));
  EXPECT_TRUE(same(routing.experts_TK, at::arange(8).repeat({3, 1})));
  EXPECT_TRUE(same(routing.weights_TK, at::full({3, 8}, 0.125, at::kDouble)));
}

TEST(DSelectKRouterTest, R5_IsDenseAtTheStart) {
  for (const int64_t E : {5, 8}) {
    ModelConfig model = sample_model();
    model.hidden_size = 64;
    MoeConfig config = sample_moe_config(2);
    config.num_experts = E;
    config.router.type = "dselect_k";
    const Mesh mesh = solo_mesh();
    SampleMoe moe(model, config, mesh);
    const Tensor x_TD = normal_tensor({50, 64}, "hidden states", at::kFloat);
    const MoeOutput output = moe.layer.forward(x_TD, context_of(5, 10));
    EXPECT_EQ(output.record.kept_TK.sizes(), (std::vector<int64_t>{50, E}));
    EXPECT_TRUE(output.record.kept_TK.all().item<bool>());
    EXPECT_EQ(output.record.routed_pairs.item<int64_t>(), 50 * E);
    // A bit is nearly a half: an eighth of the weight each.
    EXPECT_TRUE(near(output.record.weights_TK, at::full({50, E}, 0.125), 0.05));
    // z within its bounds: the bias +-gamma / 100, the weight +-gamma / (100 sqrt(D)).
    EXPECT_LE(moe.weight("gate.code.bias").abs().max().item<float>(), 0.01F);
    EXPECT_GT(moe.weight("gate.code.bias").abs().max().item<float>(), 0.005F);
    EXPECT_LE(moe.weight("gate.code.weight").abs().max().item<float>(), 0.01F / 8);
    EXPECT_GT(moe.weight("gate.code.weight").abs().max().item<float>(), 0.009F / 8);
  }
}

TEST(DSelectKRouterTest, R5_GradientsMatchFiniteDifferences) {
  for (const int64_t E : {4, 5}) {
    const Case sizes{E, 2};
    const int64_t LM = 2 * sizes.bits();
    const TensorFunction f = [&](const auto& in) {
      const Routing routing =
          sizes.router(3).route(in[0], {{in[1], in[2], in[3]}, {}}, context_of(1, in[0].size(0)));
      return at::cat({dense(routing), routing.probs_TE, routing.regularizer_T.unsqueeze(1)}, 1);
    };
    EXPECT_TRUE(
        gradients_match(f,
                        {normal_tensor({6, 3}, "hidden states"), normal_tensor({2, 3}, "selectors"),
                         0.1 * normal_tensor({LM, 3}, "code"), 0.1 * normal_tensor({LM}, "bias")},
                        1e-7));
  }
}

// The logarithm too, where no expert is left out.
TEST(DSelectKRouterTest, R5_GradientsOfTheLogitsMatchFiniteDifferences) {
  const TensorFunction f = [&](const auto& in) { return route({6, 2}, in[0]).logits_TE; };
  EXPECT_TRUE(gradients_match(f, {sample_columns({6, 2}, 5, 0.1)}, 1e-7));
}

TEST(DSelectKRouterTest, R5_DecidedSelectorsHaveNoGradientAndTheirWeightsHave) {
  Tensor x_TD = sample_columns({8, 2}, 12, 1.0);
  x_TD.narrow(1, 2, 6).sign_();
  const TensorFunction f = [](const auto& in) {
    const Routing routing = route({8, 2}, in[0]);
    return at::cat({dense(routing), routing.regularizer_T.unsqueeze(1)}, 1);
  };
  const Tensor gradient =
      gradients_of(f, {x_TD}, normal_tensor({12, 9}, "weight of the outputs"))[0];
  EXPECT_TRUE(same(gradient.narrow(1, 2, 6), at::zeros({12, 6}, at::kDouble)));
  EXPECT_GT(gradient.narrow(1, 0, 2).abs().max().item<double>(), 1e-2);
}

// A selector that is sure of a code which names no expert: no weight, no infinity, and the
// penalty's bound.
TEST(DSelectKRouterTest, R5_ASelectorOfNoExpertStaysFinite) {
  const Tensor x_TD = at::ones({1, 4}, at::kDouble);  // code 111 of 5 experts
  const Routing routing = route({5, 1}, x_TD);
  EXPECT_FALSE(routing.kept_TK.any().item<bool>());
  EXPECT_NEAR(routing.regularizer_T.item<double>(), 1e6, 1);
  EXPECT_TRUE(routing.logits_TE.isfinite().all().item<bool>());
  EXPECT_TRUE(same(routing.probs_TE, at::zeros({1, 5}, at::kDouble)));
}

TEST(DSelectKRouterTest, R5_DoesNotKnowTheLayout) {
  const Case sizes{8, 2};
  const Tensor x_TD = sample_columns(sizes, 50, 0.4);
  RouterConfig config;
  config.type = "dselect_k";
  config.jitter_eps = 0.2;
  const DSelectKRouter router(config, place_of(8, 8, 2));
  const auto piece = [&](int64_t first, int64_t count) {
    return router.route(x_TD.narrow(0, first * 10, count * 10), columns(sizes),
                        context_of(count, 10, first));
  };
  const Routing whole = piece(0, 5), first = piece(0, 2), rest = piece(2, 3);
  EXPECT_TRUE(same(at::cat({first.experts_TK, rest.experts_TK}), whole.experts_TK));
  EXPECT_TRUE(near(at::cat({first.weights_TK, rest.weights_TK}), whole.weights_TK, 1e-12));
}

TEST(DSelectKRouterTest, R5_NoTokensAndOneExpert) {
  const Routing none = route({8, 2}, at::empty({0, 8}, at::kDouble));
  EXPECT_EQ(none.experts_TK.sizes(), (std::vector<int64_t>{0, 8}));
  EXPECT_EQ(none.kept_TK.sizes(), (std::vector<int64_t>{0, 8}));
  EXPECT_EQ(none.regularizer_T.sizes(), (std::vector<int64_t>{0}));
  const Routing one = route({1, 1}, at::zeros({3, 2}, at::kDouble));
  EXPECT_TRUE(same(one.weights_TK, at::full({3, 1}, 0.5, at::kDouble)));
}

}  // namespace
}  // namespace switchyard
