#include "moe/routers/sparsemixer_router.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <set>

#include "moe/sample_moe.h"
#include "ops/permute.h"
#include "support/tensors.h"

// T tokens, E experts, K experts per token, D model width.

namespace switchyard {
namespace {

using at::Tensor;

/// eps 0.99 keeps all experts but those whose logit is near the best one's negative.
RouterConfig mixer(const std::string& version = "v2", double eps = 0.99) {
  RouterConfig config;
  config.type = "sparsemixer";
  config.sparsemixer.version = version;
  config.sparsemixer.eps = eps;
  return config;
}

TokenContext context_of(int64_t tokens, Mode mode) {
  TokenContext context = switchyard::context_of(1, tokens);
  context.mode = mode;
  return context;
}

/// x is the logits.
Routing route(const RouterConfig& config, int64_t top_k, const Tensor& z_TE,
              const TokenContext& context, int64_t layer = 0) {
  const int64_t E = z_TE.size(1);
  RouterPlace place = place_of(E, E, top_k);
  place.layer = layer;
  return SparseMixerRouter(config, place)
      .route(z_TE, {{at::eye(E, z_TE.options().requires_grad(false))}, {}}, context);
}

Routing route(const RouterConfig& config, int64_t top_k, const Tensor& z_TE,
              Mode mode = Mode::kTrain) {
  return route(config, top_k, z_TE, context_of(z_TE.size(0), mode));
}

Tensor row(std::vector<double> values) { return at::tensor(values, at::kDouble).unsqueeze(0); }

TEST(SparseMixerRouterTest, R13_TheMaskLeavesOutWhatIsFarBelowTheBest) {
  // Distances to 2 over the larger of |z| and 2: 0, 0.1, 0.5, 1.25 (of -0.5), 5/3 (of -3).
  const Tensor z_TE = row({2.0, 1.8, 1.0, -0.5, -3.0});
  const auto weights = [&](double eps) {
    return route(mixer("v2", eps), 1, z_TE, Mode::kEval).weights_TK.item<double>();
  };
  const auto best_of = [&](int64_t experts) {
    return z_TE.narrow(1, 0, experts).softmax(1)[0][0].item<double>();
  };
  EXPECT_NEAR(weights(0.04), best_of(1), 1e-12);
  EXPECT_NEAR(weights(0.06), best_of(2), 1e-12);
  EXPECT_NEAR(weights(0.26), best_of(3), 1e-12);
  EXPECT_NEAR(weights(0.63), best_of(4), 1e-12);
  EXPECT_NEAR(weights(0.84), best_of(5), 1e-12);
  // Of negative logits the smaller one's size counts: (-1 - -1.25) / 1.25 = 0.2.
  const Tensor below_TE = row({-1.25, -1.0});
  EXPECT_EQ(route(mixer("v2", 0.09), 1, below_TE, Mode::kEval).weights_TK.item<double>(), 1);
  EXPECT_NEAR(route(mixer("v2", 0.11), 1, below_TE, Mode::kEval).weights_TK.item<double>(),
              below_TE.softmax(1)[0][1].item<double>(), 1e-12);
}

TEST(SparseMixerRouterTest, R13_EvaluationTakesTheBestEachOfItsOwnSoftmax) {
  const Tensor z_TE = normal_tensor({60, 6}, "logits");
  const Routing routing = route(mixer(), 3, z_TE, Mode::kEval);
  EXPECT_TRUE(same(routing.experts_TK, std::get<1>(z_TE.topk(3, 1))));
  EXPECT_TRUE(near(routing.probs_TE, z_TE.softmax(1), 1e-12));
  EXPECT_FALSE(routing.value_scale_TK.defined());
  for (int64_t t = 0; t < 60; ++t) {
    Tensor left_E = z_TE[t].clone();
    for (int64_t k = 0; k < 3; ++k) {
      const double best = left_E.max().item<double>();
      double below = 0;
      for (int64_t e = 0; e < 6; ++e) {
        const double z = left_E[e].item<double>();
        if (std::isinf(z) || (best - z) / std::max(std::abs(z), best) > 2 * 0.99) continue;
        below += std::exp(z);
      }
      EXPECT_NEAR(routing.weights_TK[t][k].item<double>(), std::exp(best) / below, 1e-12);
      left_E[left_E.argmax().item<int64_t>()] = -INFINITY;
    }
  }
  EXPECT_GT(routing.weights_TK.sum(1).max().item<double>(), 1.2) << "gates sum to more than 1";
}

TEST(SparseMixerRouterTest, R13_TheCorrectedVersionHalvesTheLogits) {
  const Tensor z_TE = normal_tensor({60, 6}, "logits");
  const Routing star = route(mixer("v2_star"), 2, z_TE, Mode::kEval),
                halved = route(mixer(), 2, z_TE / 2, Mode::kEval);
  EXPECT_TRUE(same(star.experts_TK, halved.experts_TK));
  EXPECT_TRUE(near(star.weights_TK, halved.weights_TK, 1e-12));
}

TEST(SparseMixerRouterTest, R13_ChoicesAreDrawnFromTheMaskedSoftmax) {
  constexpr int64_t kTokens = 20000;
  const Tensor z_E = at::tensor({0.5, 1.2, 0.9, 1.0}, at::kDouble);
  for (const auto& [version, temperature] :
       {std::pair<const char*, double>{"v2", 1.0}, {"v2_star", 2.0}}) {
    const Routing routing = route(mixer(version), 2, z_E.repeat({kTokens, 1}));
    const Tensor p_E = (z_E / temperature).softmax(0);
    const Tensor first_T = routing.experts_TK.select(1, 0),
                 second_T = routing.experts_TK.select(1, 1);
    EXPECT_FALSE((first_T == second_T).any().item<bool>());
    for (int64_t e = 0; e < 4; ++e) {
      const double p = p_E[e].item<double>();
      const Tensor is_e = first_T == e;
      EXPECT_NEAR(is_e.to(at::kDouble).mean().item<double>(), p,
                  3 * std::sqrt(p * (1 - p) / kTokens))
          << version << " " << e;
      // After e, another in proportion to what is left.
      const auto times = is_e.sum().item<double>();
      for (int64_t other = 0; other < 4; ++other) {
        if (other == e) continue;
        const double q = p_E[other].item<double>() / (1 - p);
        EXPECT_NEAR((second_T == other).logical_and(is_e).sum().item<double>() / times, q,
                    3 * std::sqrt(q * (1 - q) / times));
      }
    }
  }
}

TEST(SparseMixerRouterTest, R13_AFarExpertIsNeverDrawn) {
  const Tensor z_TE = row({1.0, 0.985, 0.9, 0.0}).repeat({2000, 1});
  const Routing routing = route(mixer("v2", 0.01), 1, z_TE);  // 2 eps = 0.02
  EXPECT_LT(routing.experts_TK.max().item<int64_t>(), 2);
  EXPECT_EQ(routing.experts_TK.max().item<int64_t>(), 1);
}

TEST(SparseMixerRouterTest, R13_TheMeanScaleOfWhatIsNotTheBestIsAHalf) {
  constexpr int64_t kTokens = 20000;
  // Ones with probability 1/4: mean 1/2. With 5/8: 3/4.
  for (const auto& [version, ones] :
       {std::pair<const char*, double>{"v2", 0.25}, {"v2_star", 0.625}}) {
    const Routing routing =
        route(mixer(version), 2, row({0.5, 1.2, 0.9, 1.0}).repeat({kTokens, 1}));
    const Tensor first_T = routing.experts_TK.select(1, 0);
    for (int64_t k = 0; k < 2; ++k) {
      // The best of the first choice is 1, of the second 1 again or, after it, 3.
      const Tensor best_T =
          k == 0 ? at::ones_like(first_T)
                 : at::where(first_T == 1, at::full_like(first_T, 3), at::ones_like(first_T));
      const Tensor scale_T = routing.value_scale_TK.select(1, k),
                   is_best_T = routing.experts_TK.select(1, k) == best_T;
      EXPECT_TRUE((scale_T == 1).logical_or((scale_T - 1.0 / 3).abs() < 1e-12).all().item<bool>());
      EXPECT_EQ(scale_T.masked_select(is_best_T).min().item<double>(), 1);
      const Tensor others = scale_T.masked_select(is_best_T.logical_not());
      const double mean = ones == 0.25 ? 0.5 : 0.75;
      const double sigma =
          2.0 / 3 * std::sqrt(ones * (1 - ones) / static_cast<double>(others.numel()));
      EXPECT_NEAR(others.mean().item<double>(), mean, 3 * sigma) << version;
    }
  }
}

/// What an expert gives, one number each.
const std::vector<double> kOutputs = {1.5, -0.7, 2.0, 0.4};

/// The router's gradient at z (T, E) of sum_t f(y_t), y_t the output of the one expert that was
/// drawn, through the layer's own combine. f(y) = a y + b y^2 + c sin y.
Tensor sampled_gradient(const RouterConfig& config, const Tensor& z_TE, double a, double b,
                        double c) {
  const Tensor leaf_TE = z_TE.clone().set_requires_grad(true);
  const Routing routing = route(config, 1, leaf_TE);
  const int64_t T = z_TE.size(0);
  const Tensor rows_S1 =
      at::tensor(kOutputs, at::kDouble).index_select(0, routing.experts_TK.flatten()).unsqueeze(1);
  const RowMap map{at::arange(T, at::kLong), at::arange(T, at::kLong).unsqueeze(1)};
  const Tensor y = combine_tokens(rows_S1, routing.weights_TK, map, routing.value_scale_TK);
  (a * y + b * y.square() + c * y.sin()).sum().backward();
  return leaf_TE.grad();
}

/// The same in expectation, by enumeration: expert D with probability p_D, scale s,
///   factor * sum_D p_D sum_s P(s | D) f'(s p_D E_D) E_D dp_D/dz.
Tensor expected_gradient(const Tensor& z_E, bool star, double a, double b, double c) {
  const int64_t E = z_E.size(0);
  const Tensor p_E = (star ? z_E / 2 : z_E).softmax(0);
  const double ones = star ? 0.625 : 0.25;
  const int64_t best = z_E.argmax().item<int64_t>();
  Tensor gradient_E = at::zeros({E}, at::kDouble);
  for (int64_t D = 0; D < E; ++D) {
    const double p = p_E[D].item<double>(), h = p * kOutputs[D];
    const auto slope = [&](double y) { return a + 2 * b * y + c * std::cos(y); };
    const double mean = D == best ? slope(h) : ones * slope(h) + (1 - ones) * slope(h / 3);
    for (int64_t j = 0; j < E; ++j) {
      // dp_D/dz_j; with z / 2 a half of it, which v2*'s factor of 2 makes up for.
      const double dp = p * ((D == j ? 1.0 : 0.0) - p_E[j].item<double>());
      gradient_E[j] += p * mean * kOutputs[D] * dp;
    }
  }
  return gradient_E;
}

void expect_within_three_sigma(const Tensor& samples_TE, const Tensor& expected_E) {
  const Tensor mean_E = samples_TE.mean(0),
               sigma_E = samples_TE.std(0) / std::sqrt(static_cast<double>(samples_TE.size(0)));
  EXPECT_TRUE(((mean_E - expected_E).abs() <= 3 * sigma_E).all().item<bool>())
      << mean_E << expected_E << sigma_E;
  EXPECT_LT((sigma_E / expected_E.abs().max()).max().item<double>(), 0.02) << "too few samples";
}

TEST(SparseMixerRouterTest, R13_TheMeanGradientIsThePapersEstimate) {
  const Tensor z_E = at::tensor({0.5, 1.2, 0.9, 1.0}, at::kDouble);
  for (const char* version : {"v2", "v2_star"}) {
    const Tensor samples_TE =
        sampled_gradient(mixer(version), z_E.repeat({60000, 1}), 0.3, 1.0, 2.0);
    expect_within_three_sigma(samples_TE, expected_gradient(z_E, version[2] == '_', 0.3, 1.0, 2.0));
  }
}

// Of a linear loss f every step of Heun's is exact: v2* estimates the gradient of
// E_D[f(p_D E_D)] = sum_D p_D f(p_D E_D), p = softmax(z / 2), and v2 half of that of its own.
TEST(SparseMixerRouterTest, R13_OnALinearLossTheCorrectedVersionIsUnbiased) {
  const Tensor z_E = at::tensor({0.5, 1.2, 0.9, 1.0}, at::kDouble);
  for (const bool star : {false, true}) {
    const TensorFunction loss = [&](const auto& in) {
      const Tensor p_E = (star ? in[0] / 2 : in[0]).softmax(0);
      return (p_E * p_E * at::tensor(kOutputs, at::kDouble)).sum();
    };
    const Tensor truth_E = gradients_of(loss, {z_E}, at::ones({}, at::kDouble))[0];
    const Tensor samples_TE =
        sampled_gradient(mixer(star ? "v2_star" : "v2"), z_E.repeat({60000, 1}), 1, 0, 0);
    expect_within_three_sigma(samples_TE, star ? truth_E : truth_E / 2);
  }
}

// PhimoeMultiplier's backward: p_D (1[D] - p) times the gradient, whatever the scale was.
TEST(SparseMixerRouterTest, R13_TheRoutersGradientDoesNotKnowTheScale) {
  const Tensor z_TE = normal_tensor({200, 5}, "logits");
  const Tensor weight_TK = normal_tensor({200, 1}, "weight of the outputs");
  for (const char* rule : {"algorithm1", "scaled"}) {
    RouterConfig config = mixer("v2", 2.0 / 3);
    config.sparsemixer.expert_gradient = rule;
    const TensorFunction f = [&](const auto& in) { return route(config, 1, in[0]).weights_TK; };
    const Tensor gradient_TE = gradients_of(f, {z_TE}, weight_TK)[0];
    const Routing routing = route(config, 1, z_TE);
    const Tensor best_T1 = z_TE.amax(1, true);
    const Tensor far_TE = (best_T1 - z_TE) / at::maximum(z_TE.abs(), best_T1) > 4.0 / 3;
    const Tensor p_TE = z_TE.masked_fill(far_TE, -INFINITY).softmax(1);
    const Tensor drawn_TE = at::zeros_like(p_TE).scatter(1, routing.experts_TK, 1);
    const Tensor p_T1 = p_TE.gather(1, routing.experts_TK);
    EXPECT_TRUE(near(gradient_TE, weight_TK * p_T1 * (drawn_TE - p_TE), 1e-12)) << rule;
    EXPECT_GT(far_TE.sum().item<int64_t>(), 50);
    EXPECT_EQ(gradient_TE.masked_select(far_TE).abs().max().item<double>(), 0);
    // scaled has the scale in the weight, algorithm 1 beside it.
    const bool scaled = rule == std::string("scaled");
    EXPECT_EQ(routing.value_scale_TK.defined(), !scaled);
    const Tensor ratio = routing.weights_TK / p_T1;
    EXPECT_NEAR(ratio.min().item<double>(), scaled ? 1.0 / 3 : 1, 1e-12);
    EXPECT_NEAR(ratio.max().item<double>(), 1, 1e-12);
  }
}

TEST(SparseMixerRouterTest, R13_GradientsMatchFiniteDifferences) {
  for (const Mode mode : {Mode::kEval, Mode::kTrain}) {
    const TensorFunction f = [&](const auto& in) {
      const SparseMixerRouter router(mixer(), place_of(3, 5, 2));
      const Routing routing = router.route(in[0], {{in[1]}, {}}, context_of(in[0].size(0), mode));
      return at::cat({routing.weights_TK, routing.probs_TE, routing.logits_TE}, 1);
    };
    EXPECT_TRUE(gradients_match(
        f, {normal_tensor({12, 3}, "hidden states"), normal_tensor({5, 3}, "gate")}, 1e-7));
  }
}

TEST(SparseMixerRouterTest, R13_TiesAndAllExpertsChosen) {
  const Routing zeros = route(mixer("v2", 0.01), 3, at::zeros({4, 5}, at::kDouble), Mode::kEval);
  EXPECT_TRUE(same(zeros.experts_TK, at::arange(3).repeat({4, 1})));
  EXPECT_TRUE(near(zeros.weights_TK,
                   at::tensor({1.0 / 5, 1.0 / 4, 1.0 / 3}, at::kDouble).repeat({4, 1}), 1e-12));
  for (const Mode mode : {Mode::kEval, Mode::kTrain}) {
    const Routing all = route(mixer(), 5, normal_tensor({50, 5}, "logits"), mode);
    EXPECT_TRUE(same(std::get<0>(all.experts_TK.sort(1)), at::arange(5).repeat({50, 1})));
    EXPECT_TRUE(near(all.weights_TK.select(1, 4), at::ones({50}, at::kDouble), 1e-12));
  }
}

TEST(SparseMixerRouterTest, R13_DrawsDoNotKnowTheLayout) {
  const Tensor z_TE = normal_tensor({50, 6}, "logits");
  const auto piece = [&](int64_t first, int64_t count, int64_t layer = 0) {
    return route(mixer(), 2, z_TE.narrow(0, first * 10 % 50, count * 10),
                 switchyard::context_of(count, 10, first), layer);
  };
  const Routing whole = piece(0, 5), first = piece(0, 2), rest = piece(2, 3);
  EXPECT_TRUE(same(at::cat({first.experts_TK, rest.experts_TK}), whole.experts_TK));
  EXPECT_TRUE(same(at::cat({first.value_scale_TK, rest.value_scale_TK}), whole.value_scale_TK));
  EXPECT_FALSE(at::equal(piece(100, 5).experts_TK, whole.experts_TK));
  EXPECT_FALSE(at::equal(piece(0, 5, /*layer=*/1).experts_TK, whole.experts_TK));
}

TEST(SparseMixerRouterTest, R13_NoTokens) {
  for (const Mode mode : {Mode::kEval, Mode::kTrain}) {
    TokenContext context = switchyard::context_of(0, 5);
    context.mode = mode;
    const Routing routing = route(mixer(), 2, at::empty({0, 4}), context);
    EXPECT_EQ(routing.experts_TK.sizes(), (std::vector<int64_t>{0, 2}));
    EXPECT_EQ(routing.weights_TK.sizes(), (std::vector<int64_t>{0, 2}));
  }
}

/// Output and every gradient of the layer against loops over tokens and choices, with the
/// router's own routing: the value with the scale; the gradient of an expert with it (`scaled`)
/// or without (`algorithm1`), of the weights without.
void expect_layer_of_loops(const std::string& rule) {
  ModelConfig model = sample_model();
  model.ffn = "gelu";
  MoeConfig config = sample_moe_config(2);
  config.router = mixer();
  config.router.sparsemixer.expert_gradient = rule;
  config.capacity.factor = 0.75;
  config.capacity.min = 1;
  const Mesh mesh = solo_mesh();
  SampleMoe moe(model, config, mesh);
  const TokenContext context = switchyard::context_of(4, 10);
  const Tensor x_TD = normal_tensor({40, 6}, "hidden states", at::kFloat);
  const Tensor g_TD = normal_tensor({40, 6}, "weight of the outputs", at::kFloat);
  Tensor leaf_TD = x_TD.clone().set_requires_grad(true);
  const MoeOutput output = moe.layer.forward(leaf_TD, context);
  torch::autograd::backward({output.y_TD}, {g_TD});

  std::map<std::string, Tensor> leaves;
  for (const PlacedPart& placed : moe.store.parts()) {
    leaves[placed.part.name] = moe.store.weight_of(placed).detach().clone().set_requires_grad(true);
  }
  Tensor x = x_TD.clone().set_requires_grad(true);
  RouterPlace place = place_of(6, 8, 2);
  place.layer = 3;
  RouterConfig plain = config.router;
  plain.sparsemixer.expert_gradient = "algorithm1";
  const Routing routing =
      SparseMixerRouter(plain, place).route(x, {{leaves.at("mlp.gate.weight")}, {}}, context);
  std::vector<Tensor> values, ways;
  int64_t dropped = 0;
  for (int64_t t = 0; t < 40; ++t) {
    Tensor value_D = at::zeros({6}), way_D = at::zeros({6});
    for (int64_t k = 0; k < 2; ++k) {
      if (!output.record.kept_TK[t][k].item<bool>()) {
        ++dropped;
        continue;
      }
      const std::string expert =
          "mlp.experts." + std::to_string(routing.experts_TK[t][k].item<int64_t>());
      const Tensor y_D =
          at::matmul(leaves.at(expert + ".down_proj.weight"),
                     at::gelu(at::matmul(leaves.at(expert + ".up_proj.weight"), x[t])));
      const Tensor w = routing.weights_TK[t][k], s = routing.value_scale_TK[t][k];
      value_D = value_D + s * w.detach() * y_D.detach();
      // Products whose gradients are what is asked for, term by term.
      const Tensor factor = rule == "scaled" ? s : at::ones({});
      way_D = way_D + w * y_D.detach() + factor * w.detach() * y_D;
    }
    values.push_back(value_D);
    ways.push_back(way_D);
  }
  EXPECT_GT(dropped, 0);
  EXPECT_LT(routing.value_scale_TK.min().item<float>(), 0.34F);
  EXPECT_TRUE(near(output.y_TD, at::stack(values), 1e-5));
  torch::autograd::backward({at::stack(ways)}, {g_TD});
  EXPECT_TRUE(near(leaf_TD.grad(), x.grad(), 1e-5));
  for (const auto& [name, leaf] : leaves) {
    const Tensor expected = leaf.grad().defined() ? leaf.grad() : at::zeros_like(leaf);
    EXPECT_TRUE(near(moe.gradient(name), expected, 1e-5)) << name;
  }
}

TEST(SparseMixerRouterTest, R13_TheLayerIsAlgorithmOne) { expect_layer_of_loops("algorithm1"); }

TEST(SparseMixerRouterTest, R13_ScaledExpertsLearnWithTheScale) { expect_layer_of_loops("scaled"); }

}  // namespace
}  // namespace switchyard
