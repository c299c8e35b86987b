#include "moe/upcycling.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/random.h"
#include "moe/sample_moe.h"

// F dense inner width, G granularity, D model width, E experts, K experts per token.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t kD = 6, kF = 24, kTokens = 40;

Tensor draws(std::vector<int64_t> shape, const std::string& name, double std = 1.0,
             double mean = 0.0) {
  Tensor values = at::empty(shape, at::kFloat);
  const RandomStream stream(11, name);
  for (int64_t i = 0; i < values.numel(); ++i) {
    values.data_ptr<float>()[i] =
        static_cast<float>(mean + std * stream.normal(static_cast<uint64_t>(i)));
  }
  return values;
}

/// The three matrices of a dense feed-forward; the gate is there without one too, unused.
struct Dense {
  Ffn ffn = Ffn::kSwiGlu;
  Tensor gate_FD = draws({kF, kD}, "gate", 0.6), up_FD = draws({kF, kD}, "up", 0.6),
         down_DF = draws({kD, kF}, "down", 0.3);

  Tensor forward(const Tensor& x_TD) const {
    const Tensor in_FD = is_gated(ffn) ? at::cat({gate_FD, up_FD}) : up_FD;
    return at::linear(ffn_activation(at::linear(x_TD, in_FD), ffn), down_DF);
  }
  const Tensor& weight(Projection projection) const {
    return projection == Projection::kGate ? gate_FD
           : projection == Projection::kUp ? up_FD
                                           : down_DF;
  }
};

const char* word_of(Ffn ffn) {
  return ffn == Ffn::kSwiGlu  ? "swiglu"
         : ffn == Ffn::kGeGlu ? "geglu"
         : ffn == Ffn::kGelu  ? "gelu"
                              : "relu";
}

ExpertRecipe recipe_of(int64_t E, int64_t K, int64_t G = 1) {
  ExpertRecipe recipe;
  recipe.num_experts = E;
  recipe.top_k = K;
  recipe.granularity = G;
  recipe.seed = 3;
  return recipe;
}

/// An MoE layer that is made of `dense` by `recipe`.
struct UpcycledLayer {
  Mesh mesh = solo_mesh();
  SampleMoe moe;

  UpcycledLayer(const Dense& dense, ExpertRecipe recipe, double router_std = 0.02)
      : moe(model_of(dense), config_of(recipe), mesh) {
    recipe.gated = is_gated(dense.ffn);
    for (int64_t e = 0; e < recipe.num_experts; ++e) {
      const std::string expert = "experts." + std::to_string(e);
      const auto set = [&](const char* name, Projection projection) {
        moe.weight(expert + name)
            .copy_(expert_projection(recipe, "mlp." + expert, e, projection,
                                     dense.weight(projection)));
      };
      if (recipe.gated) set(".gate_proj.weight", Projection::kGate);
      set(".up_proj.weight", Projection::kUp);
      set(".down_proj.weight", Projection::kDown);
    }
    moe.weight("gate.weight").copy_(new_router(recipe, "mlp.gate.weight", kD, router_std));
  }

  static ModelConfig model_of(const Dense& dense) {
    ModelConfig model;
    model.hidden_size = kD;
    model.ffn = word_of(dense.ffn);
    return model;
  }
  static MoeConfig config_of(const ExpertRecipe& recipe) {
    MoeConfig config;
    config.num_experts = recipe.num_experts;
    config.top_k = recipe.top_k;
    config.expert_intermediate_size = kF / recipe.granularity;
    config.router.normalize = recipe.normalize;
    return config;
  }
  MoeOutput forward(const Tensor& x_TD) const {
    return moe.layer.forward(x_TD, context_of(1, x_TD.size(0)));
  }
};

double largest_difference(const Tensor& a, const Tensor& b) {
  return (a - b).abs().max().item<double>();
}
double relative_error(const Tensor& y, const Tensor& expected) {
  return ((y - expected).norm() / expected.norm()).item<double>();
}

// ------------------------------------------------------------------ copies

TEST(UpcyclingTest, C6_1_ACopyIsTheDenseLayerForAnyRouter) {
  const Tensor x_TD = draws({kTokens, kD}, "x");
  double worst = 0;
  for (const Ffn ffn : {Ffn::kSwiGlu, Ffn::kGeGlu, Ffn::kGelu, Ffn::kRelu}) {
    Dense dense;
    dense.ffn = ffn;
    for (const double std : {1e-3, 0.02, 3.0}) {
      for (const int64_t K : {1, 2, 5}) {
        const UpcycledLayer layer(dense, recipe_of(8, K), std);
        const Tensor expected_TD = dense.forward(x_TD);
        worst = std::max(worst, largest_difference(layer.forward(x_TD).y_TD, expected_TD) /
                                    expected_TD.abs().max().item<double>());
      }
    }
  }
  EXPECT_LE(worst, 1e-6);
  RecordProperty("worst", std::to_string(worst));
}

TEST(UpcyclingTest, C6_2_WithoutNormalisingTheOutputIsScaledByTheKeptProbability) {
  const Tensor x_TD = draws({kTokens, kD}, "x");
  const Dense dense;
  for (const int64_t K : {1, 3}) {
    ExpertRecipe recipe = recipe_of(8, K);
    recipe.normalize = false;
    const MoeOutput output = UpcycledLayer(dense, recipe).forward(x_TD);
    const Tensor kept_T1 = output.record.probs_TE.gather(1, output.record.experts_TK).sum(1, true);
    EXPECT_LE(largest_difference(output.y_TD, kept_T1 * dense.forward(x_TD)), 1e-5);
    EXPECT_NEAR(kept_T1.mean().item<double>(), static_cast<double>(K) / 8, 0.05);
  }
}

/// The gradient that the language loss, here any loss of the output, sends to the router.
double router_gradient(const ExpertRecipe& recipe) {
  const UpcycledLayer layer(Dense{}, recipe);
  const Tensor x_TD = draws({kTokens, kD}, "x");
  (layer.forward(x_TD).y_TD * draws({kTokens, kD}, "dy")).sum().backward();
  return layer.moe.gradient("gate.weight").norm().item<double>();
}

TEST(UpcyclingTest, C6_3_NoLossReachesTheRouterOfNormalisedCopies) {
  ExpertRecipe normalised = recipe_of(8, 2), not_normalised = normalised;
  not_normalised.normalize = false;
  const double reference = router_gradient(not_normalised);
  EXPECT_GT(reference, 0.1);
  // Nothing but the rounding of equal terms that cancel.
  EXPECT_LE(router_gradient(normalised), 1e-6 * reference);
  ExpertRecipe noisy = normalised;
  noisy.init = ExpertInit::kNoise;
  noisy.noise_std = 0.1;
  EXPECT_GT(router_gradient(noisy), 1e-3);
}

TEST(UpcyclingTest, C6_4_ACopyIsTheDenseWeightsByteForByte) {
  const Dense dense;
  for (const Projection projection : {Projection::kGate, Projection::kUp, Projection::kDown}) {
    EXPECT_TRUE(is_plain_copy(recipe_of(8, 2), projection));
    EXPECT_TRUE(at::equal(expert_projection(recipe_of(8, 2), "mlp.experts.5", 5, projection,
                                            dense.weight(projection)),
                          dense.weight(projection)));
  }
  ExpertRecipe shared = recipe_of(8, 2);
  shared.share = 0.5;
  EXPECT_TRUE(is_plain_copy(shared, Projection::kUp));
  EXPECT_FALSE(is_plain_copy(shared, Projection::kDown));
}

// ------------------------------------------------------------------ fine-grained

TEST(UpcyclingTest, FineGrainedIsExactWhereTopKIsAMultipleOfG) {
  const Tensor x_TD = draws({kTokens, kD}, "x");
  for (const Ffn ffn : {Ffn::kSwiGlu, Ffn::kGeGlu, Ffn::kGelu, Ffn::kRelu}) {
    Dense dense;
    dense.ffn = ffn;
    for (const auto& [E, K, G] : {std::array<int64_t, 3>{8, 2, 2},
                                  {8, 4, 2},
                                  {16, 4, 4},
                                  {16, 8, 4},
                                  {12, 3, 3},
                                  {8, 8, 8}}) {
      const UpcycledLayer layer(dense, recipe_of(E, K, G));
      EXPECT_LE(relative_error(layer.forward(x_TD).y_TD, dense.forward(x_TD)), 1e-6)
          << word_of(ffn) << " E " << E << " K " << K << " G " << G;
    }
  }
}

TEST(UpcyclingTest, TopKChoosesWholeVirtualGroups) {
  const MoeOutput output =
      UpcycledLayer(Dense{}, recipe_of(16, 8, 4)).forward(draws({kTokens, kD}, "x"));
  for (int64_t t = 0; t < kTokens; ++t) {
    std::multiset<int64_t> groups;
    for (int64_t k = 0; k < 8; ++k)
      groups.insert(output.record.experts_TK[t][k].item<int64_t>() / 4);
    for (const int64_t group : groups) EXPECT_EQ(groups.count(group), 4U) << "token " << t;
  }
}

TEST(UpcyclingTest, TopKThatIsNoMultipleOfGChangesTheFunction) {
  const Tensor x_TD = draws({kTokens, kD}, "x");
  const Dense dense;
  for (const ExpertScaling scaling : {ExpertScaling::kExact, ExpertScaling::kPublished}) {
    ExpertRecipe recipe = recipe_of(8, 3, 2);
    recipe.scaling = scaling;
    const double error =
        relative_error(UpcycledLayer(dense, recipe).forward(x_TD).y_TD, dense.forward(x_TD));
    EXPECT_GT(error, 0.1);
    EXPECT_LT(error, 0.6);
  }
}

TEST(UpcyclingTest, PublishedScalesAreThePapers) {
  ExpertRecipe recipe = recipe_of(64, 8, 8);
  recipe.scaling = ExpertScaling::kPublished;
  const auto expect_all = [&](double scale) {
    for (const Projection projection : {Projection::kGate, Projection::kUp, Projection::kDown})
      EXPECT_DOUBLE_EQ(projection_scale(recipe, projection), scale);
  };
  expect_all(2.0);  // 8^(1/3)
  recipe.normalize = false;
  expect_all(4.0);  // (64 * 8 / 8)^(1/3)
  recipe.gated = false;
  expect_all(8.0);
  recipe.normalize = true;
  expect_all(std::sqrt(8.0));
}

/// Exact where the activation is homogeneous, some per cent off where it is not.
TEST(UpcyclingTest, PublishedScalingIsExactForReluAndNearForSwiGlu) {
  const Tensor x_TD = draws({kTokens, kD}, "x");
  for (const int64_t G : {2, 4}) {
    ExpertRecipe recipe = recipe_of(16, 4, G);
    recipe.scaling = ExpertScaling::kPublished;
    Dense dense;
    const double swiglu =
        relative_error(UpcycledLayer(dense, recipe).forward(x_TD).y_TD, dense.forward(x_TD));
    EXPECT_GT(swiglu, 0.01);
    EXPECT_LT(swiglu, 0.3);
    dense.ffn = Ffn::kRelu;
    EXPECT_LE(relative_error(UpcycledLayer(dense, recipe).forward(x_TD).y_TD, dense.forward(x_TD)),
              1e-6);
  }
}

/// s = E G / K undoes the mean of the probabilities: with a router that does not know the
/// experts apart, to rounding.
TEST(UpcyclingTest, PublishedScalingMakesUpForProbabilitiesThatAreNotNormalised) {
  const Tensor x_TD = draws({kTokens, kD}, "x");
  Dense dense;
  dense.ffn = Ffn::kRelu;
  ExpertRecipe recipe = recipe_of(16, 4, 2);
  recipe.scaling = ExpertScaling::kPublished;
  recipe.normalize = false;
  EXPECT_LE(
      relative_error(UpcycledLayer(dense, recipe, 1e-9).forward(x_TD).y_TD, dense.forward(x_TD)),
      1e-6);
}

// ------------------------------------------------------------------ drop and noise

struct MeanStd {
  double mean, std;
};
MeanStd mean_std(const Tensor& values) {
  const Tensor wide = values.to(at::kDouble);
  return {wide.mean().item<double>(), wide.std(/*unbiased=*/false).item<double>()};
}

TEST(UpcyclingTest, DropRedrawsExactlyItsShareOfUnitsAndLeavesTheRest) {
  const int64_t F = 200, D = 64;
  ExpertRecipe recipe = recipe_of(4, 2);
  recipe.init = ExpertInit::kDrop;
  recipe.drop_ratio = 0.3;
  std::set<std::vector<int64_t>> choices;
  for (int64_t e = 0; e < 4; ++e) {
    const std::string expert = "model.layers.1.mlp.experts." + std::to_string(e);
    const std::vector<int64_t> units = redrawn_units(recipe, expert, F);
    ASSERT_EQ(units.size(), 60U);
    choices.insert(units);
    const Tensor redrawn = at::tensor(units, at::kLong);
    for (const Projection projection : {Projection::kGate, Projection::kUp, Projection::kDown}) {
      const int64_t dim = projection == Projection::kDown ? 1 : 0;
      const Tensor dense =
          draws(dim == 0 ? std::vector{F, D} : std::vector{D, F}, "wide", 0.2, 0.5);
      const Tensor made = expert_projection(recipe, expert, e, projection, dense);
      const Tensor changed = (made != dense).any(1 - dim).nonzero().flatten();
      EXPECT_TRUE(at::equal(changed, redrawn)) << expert;
      const Tensor new_weights = made.index_select(dim, redrawn),
                   old_weights = dense.index_select(dim, redrawn);
      EXPECT_EQ((new_weights == old_weights).sum().item<int64_t>(), 0);
      const MeanStd now = mean_std(new_weights), before = mean_std(old_weights);
      EXPECT_NEAR(now.mean, before.mean, 0.01);      // 3840 draws of std 0.2: 0.003
      EXPECT_NEAR(now.std / before.std, 1.0, 0.05);  // 0.011
    }
  }
  EXPECT_EQ(choices.size(), 4U);
}

TEST(UpcyclingTest, DropWithinShardsCountsTheShardsUnits) {
  ExpertRecipe recipe = recipe_of(4, 2, 2);
  recipe.init = ExpertInit::kDrop;
  const Dense dense;
  const Tensor made = expert_projection(recipe, "e", 3, Projection::kDown, dense.down_DF);
  const Tensor shard = dense.down_DF.narrow(1, kF / 2, kF / 2) * 2;
  EXPECT_EQ(made.size(1), kF / 2);
  EXPECT_EQ((made != shard).any(0).sum().item<int64_t>(), kF / 4);
}

TEST(UpcyclingTest, NoiseHasTheStandardDeviationThatWasAskedFor) {
  ExpertRecipe recipe = recipe_of(4, 2);
  recipe.init = ExpertInit::kNoise;
  recipe.noise_std = 0.03;
  const Tensor dense = draws({200, 64}, "wide");
  std::vector<Tensor> noises;
  for (const char* expert : {"experts.0", "experts.1"}) {
    const Tensor noise = expert_projection(recipe, expert, 0, Projection::kUp, dense) - dense;
    EXPECT_NEAR(mean_std(noise).mean, 0, 0.001);
    EXPECT_NEAR(mean_std(noise).std, 0.03, 0.0009);
    noises.push_back(noise);
  }
  EXPECT_LT(std::abs((noises[0] * noises[1]).mean().item<double>()), 1e-4);  // independent
}

// ------------------------------------------------------------------ moments, router, draws

TEST(UpcyclingTest, MomentsAreTiledSlicedAndScaledByTheChainRule) {
  const Tensor moment = draws({kD, kF}, "moment").abs();
  EXPECT_TRUE(
      at::equal(expert_moment(recipe_of(4, 2), "e", 3, Projection::kDown, 1, moment), moment));
  const ExpertRecipe fine = recipe_of(8, 2, 4);
  const Tensor shard = moment.narrow(1, 1 * kF / 4, kF / 4);
  EXPECT_TRUE(at::equal(expert_moment(fine, "e", 5, Projection::kDown, 1, moment), shard / 4));
  EXPECT_TRUE(at::equal(expert_moment(fine, "e", 5, Projection::kDown, 2, moment), shard / 16));
  EXPECT_TRUE(at::equal(expert_moment(fine, "e", 5, Projection::kUp, 2, moment.t()), shard.t()));
  ExpertRecipe drop = recipe_of(4, 2);
  drop.init = ExpertInit::kDrop;
  const Tensor dropped = expert_moment(drop, "e", 0, Projection::kDown, 1, moment);
  const Tensor units = at::tensor(redrawn_units(drop, "e", kF), at::kLong);
  EXPECT_EQ(dropped.index_select(1, units).abs().sum().item<double>(), 0);
  EXPECT_EQ((dropped != moment).any(0).sum().item<int64_t>(), kF / 2);
}

TEST(UpcyclingTest, RouterRowsAreDrawnPerVirtualGroup) {
  const Tensor router_ED = new_router(recipe_of(64, 8, 4), "gate", 100, 0.02);
  EXPECT_EQ(router_ED.sizes(), (std::vector<int64_t>{64, 100}));
  EXPECT_NEAR(mean_std(router_ED).std, 0.02, 0.001);
  for (int64_t e = 0; e < 64; ++e) {
    EXPECT_TRUE(at::equal(router_ED[e], router_ED[e / 4 * 4]));
    EXPECT_FALSE(at::equal(router_ED[e], router_ED[(e + 4) % 64]));
  }
  EXPECT_FALSE(at::equal(router_ED, new_router(recipe_of(64, 8, 4), "other", 100, 0.02)));
}

TEST(UpcyclingTest, DrawsDependOnSeedAndNameAndNotOnThreads) {
  const Tensor dense = draws({300, 200}, "wide");
  for (const ExpertInit init : {ExpertInit::kDrop, ExpertInit::kNoise}) {
    ExpertRecipe recipe = recipe_of(4, 2);
    recipe.init = init;
    recipe.noise_std = 0.1;
    const auto made = [&](int threads, const char* expert) {
      at::set_num_threads(threads);
      return expert_projection(recipe, expert, 0, Projection::kUp, dense);
    };
    const Tensor alone = made(1, "a");
    EXPECT_TRUE(at::equal(alone, made(3, "a")));
    EXPECT_FALSE(at::equal(alone, made(1, "b")));
    recipe.seed += 1;
    EXPECT_FALSE(at::equal(alone, made(1, "a")));
  }
}

}  // namespace
}  // namespace switchyard
