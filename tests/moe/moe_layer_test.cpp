#include "moe/moe_layer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "moe/sample_moe.h"
#include "support/tensors.h"

// T tokens, E experts, K experts per token, D model width, F expert width.

namespace switchyard {
namespace {

using at::Tensor;

Tensor sample_x(int64_t T) { return normal_tensor({T, 6}, "hidden states", at::kFloat); }

/// Output, record and the gradient at x of sum(y * weight).
struct Pass {
  MoeOutput output;
  Tensor x_gradient;
};

Tensor output_weight(const Tensor& y_TD) {
  return normal_tensor(y_TD.sizes().vec(), "weight of the outputs", at::kFloat);
}

Pass run(SampleMoe& moe, const Tensor& x_TD, const TokenContext& context) {
  moe.store.zero_gradients();
  const Tensor leaf_TD = x_TD.clone().set_requires_grad(true);
  MoeOutput output = moe.layer.forward(leaf_TD, context);
  torch::autograd::backward({output.y_TD}, {output_weight(output.y_TD)});
  return {output, leaf_TD.grad()};
}

Pass run(SampleMoe& moe, const Tensor& x_TD) { return run(moe, x_TD, context_of(1, x_TD.size(0))); }

/// Forward and every gradient against loops over tokens.
void expect_equal_to_loops(SampleMoe& moe, const ModelConfig& model, const MoeConfig& config,
                           const Tensor& x_TD, const TokenContext& context) {
  const Pass pass = run(moe, x_TD, context);
  const ReferenceMoe reference(moe, config, parse_ffn(model.ffn));
  const Tensor leaf_TD = x_TD.clone().set_requires_grad(true);
  const Tensor y_TD = reference.forward(leaf_TD, pass.output.record.kept_TK);
  torch::autograd::backward({y_TD}, {output_weight(y_TD)});
  EXPECT_TRUE(near(pass.output.y_TD, y_TD, 1e-5));
  EXPECT_TRUE(near(pass.x_gradient, leaf_TD.grad(), 1e-5));
  for (const auto& [name, leaf] : reference.leaves()) {
    const Tensor expected = leaf.grad().defined() ? leaf.grad() : at::zeros_like(leaf);
    EXPECT_TRUE(near(moe.gradient(name), expected, 1e-5)) << name;
  }
}

void expect_equal_to_loops(const ModelConfig& model, const MoeConfig& config, int64_t T) {
  const Mesh mesh = solo_mesh();
  SampleMoe moe(model, config, mesh);
  expect_equal_to_loops(moe, model, config, sample_x(T), context_of(1, T));
}

TEST(MoeLayerTest, EqualsLoopsForEveryNumberOfChoices) {
  for (const int64_t K : {1, 2, 3, 8}) {
    SCOPED_TRACE(K);
    expect_equal_to_loops(sample_model(), sample_moe_config(K), 24);
  }
}

TEST(MoeLayerTest, EqualsLoopsForEveryFfn) {
  for (const char* ffn : {"swiglu", "geglu", "gelu", "relu"}) {
    SCOPED_TRACE(ffn);
    ModelConfig model = sample_model();
    model.ffn = ffn;
    expect_equal_to_loops(model, sample_moe_config(), 24);
  }
}

TEST(MoeLayerTest, EqualsLoopsForEveryScore) {
  for (const char* score : {"softmax", "sigmoid"}) {
    for (const bool normalize : {true, false}) {
      SCOPED_TRACE(std::string(score) + (normalize ? ", normalised" : ""));
      MoeConfig config = sample_moe_config();
      config.router.score = score;
      config.router.normalize = normalize;
      config.router.scaling_factor = 1.5;
      expect_equal_to_loops(sample_model(), config, 24);
    }
  }
}

TEST(MoeLayerTest, C3_EqualsLoopsForSwitch) {
  MoeConfig config = sample_moe_config(1);
  config.router.type = "switch";
  expect_equal_to_loops(sample_model(), config, 24);
}

TEST(MoeLayerTest, L7_EqualsLoopsWithSharedExperts) {
  for (const bool gated : {false, true}) {
    SCOPED_TRACE(gated);
    MoeConfig config = sample_moe_config();
    config.shared_experts = {2, 3, gated};
    expect_equal_to_loops(sample_model(), config, 24);
  }
}

TEST(MoeLayerTest, EqualsLoopsWithTightCapacity) {
  for (const char* priority : {"position", "choice", "probability", "probability_sum", "random"}) {
    SCOPED_TRACE(priority);
    MoeConfig config = sample_moe_config();
    config.capacity.factor = 0.75;
    config.capacity.min = 1;
    config.capacity.priority = priority;
    config.shared_experts = {1, 4, true};
    expect_equal_to_loops(sample_model(), config, 24);
  }
}

TEST(MoeLayerTest, EqualsLoopsForOneToken) {
  expect_equal_to_loops(sample_model(), sample_moe_config(), 1);
}

// down relu(up x) with up = [I; -I] and down = [I, -I] is x, and the weights of all
// experts sum to 1.
TEST(MoeLayerTest, C1_AllExpertsOfTheIdentityGiveBackTheInput) {
  ModelConfig model = sample_model();
  model.ffn = "relu";
  MoeConfig config = sample_moe_config(8);
  config.expert_intermediate_size = 12;
  const Mesh mesh = solo_mesh();
  SampleMoe moe(model, config, mesh);
  const Tensor both = at::cat({at::eye(6), -at::eye(6)});
  for (int64_t e = 0; e < 8; ++e) {
    moe.weight("experts." + std::to_string(e) + ".up_proj.weight").copy_(both);
    moe.weight("experts." + std::to_string(e) + ".down_proj.weight").copy_(both.t());
  }
  const Tensor x_TD = sample_x(20);
  EXPECT_TRUE(near(run(moe, x_TD).output.y_TD, x_TD, 1e-5));
}

TEST(MoeLayerTest, NoTokensGiveNoRowsAndZeroGradients) {
  for (const char* type : {"topk", "gshard"}) {
    MoeConfig config = sample_moe_config();
    config.router.type = type;
    config.router.jitter_eps = 0.1;
    config.capacity.factor = 1.0;
    config.shared_experts = {1, 4, true};
    const Mesh mesh = solo_mesh();
    SampleMoe moe(sample_model(), config, mesh);
    TokenContext context = context_of(0, 5);
    const Pass pass = run(moe, sample_x(0), context);
    EXPECT_EQ(pass.output.y_TD.sizes(), (std::vector<int64_t>{0, 6}));
    EXPECT_EQ(pass.output.record.routed_pairs.item<int64_t>(), 0);
    EXPECT_EQ(pass.output.record.dropped_pairs.item<int64_t>(), 0);
    for (const PlacedPart& placed : moe.store.parts()) {
      EXPECT_EQ(moe.store.gradient_of(placed).abs().sum().item<float>(), 0) << placed.part.name;
    }
  }
}

/// Makes the router send every token of positive hidden states to `expert` first.
void send_all_to(SampleMoe& moe, int64_t expert) {
  moe.weight("gate.weight").zero_();
  moe.weight("gate.weight")[expert].fill_(1);
}

TEST(MoeLayerTest, AllTokensToOneExpert) {
  const MoeConfig config = [] {
    MoeConfig moe = sample_moe_config(1);
    moe.router.type = "switch";
    return moe;
  }();
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), config, mesh);
  send_all_to(moe, 5);
  const Tensor x_TD = sample_x(24).abs();
  expect_equal_to_loops(moe, sample_model(), config, x_TD, context_of(1, 24));
  const RouterRecord record = run(moe, x_TD).output.record;
  EXPECT_EQ(record.counts.all_GE[0][5].item<double>(), 24);
  for (int64_t e = 0; e < 8; ++e) {
    const std::string name = "experts." + std::to_string(e) + ".";
    for (const char* part : {"gate_proj.weight", "up_proj.weight", "down_proj.weight"}) {
      const float size = moe.gradient(name + part).abs().sum().item<float>();
      EXPECT_EQ(size > 0, e == 5) << name << part;
    }
  }
}

TEST(MoeLayerTest, C3_DroppedTokensGiveExactlyZeroAndNoGradient) {
  MoeConfig config = sample_moe_config(1);
  config.router.type = "switch";
  config.capacity.factor = 1.0;
  config.capacity.min = 1;
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), config, mesh);
  send_all_to(moe, 5);
  const Tensor x_TD = sample_x(24).abs();  // C = 3
  const Pass pass = run(moe, x_TD);
  EXPECT_TRUE(same(pass.output.y_TD.narrow(0, 3, 21), at::zeros({21, 6})));
  EXPECT_TRUE(same(pass.x_gradient.narrow(0, 3, 21), at::zeros({21, 6})));
  EXPECT_EQ(pass.output.record.dropped_pairs.item<int64_t>(), 21);
  EXPECT_EQ(pass.output.record.routed_pairs.item<int64_t>(), 24);
  // Counted before drops.
  EXPECT_EQ(pass.output.record.counts.first_GE[0][5].item<double>(), 24);

  // The gradients are those of the three tokens alone.
  std::vector<Tensor> gradients;
  for (const PlacedPart& placed : moe.store.parts()) {
    gradients.push_back(moe.store.gradient_of(placed).clone());
  }
  const Pass alone = run(moe, x_TD.narrow(0, 0, 3));
  EXPECT_EQ(alone.output.record.dropped_pairs.item<int64_t>(),
            2);  // C = 1: its own group is smaller
  config.capacity.factor = std::nullopt;
  SampleMoe dropless(sample_model(), config, mesh);
  send_all_to(dropless, 5);
  dropless.store.zero_gradients();
  const MoeOutput output = dropless.layer.forward(x_TD.narrow(0, 0, 3), context_of(1, 3));
  torch::autograd::backward({output.y_TD}, {output_weight(pass.output.y_TD).narrow(0, 0, 3)});
  for (size_t i = 0; i < gradients.size(); ++i) {
    const PlacedPart& placed = dropless.store.parts()[i];
    EXPECT_TRUE(near(gradients[i], dropless.store.gradient_of(placed), 1e-6)) << placed.part.name;
  }
}

TEST(MoeLayerTest, C3_DropsAreTheSumOfWhatIsOverCapacity) {
  MoeConfig config = sample_moe_config();
  config.capacity.factor = 0.8;
  config.capacity.min = 1;
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), config, mesh);
  const RouterRecord record = run(moe, sample_x(60), context_of(3, 20)).output.record;
  // Groups of 20 tokens: C = 0.8 * 2 * 20 / 8 = 4.
  const double over = (record.counts.all_GE - 4).clamp_min(0).sum().item<double>();
  EXPECT_EQ(static_cast<double>(record.dropped_pairs.item<int64_t>()), over);
  EXPECT_GT(over, 0);
  EXPECT_EQ(record.routed_pairs.item<int64_t>(), 120);
}

TEST(MoeLayerTest, CapacityLargerThanTheGroupIsDropless) {
  MoeConfig config = sample_moe_config();
  const Mesh mesh = solo_mesh();
  SampleMoe dropless(sample_model(), config, mesh);
  config.capacity.factor = 100;
  SampleMoe roomy(sample_model(), config, mesh);
  const Tensor x_TD = sample_x(24);
  const Pass a = run(dropless, x_TD), b = run(roomy, x_TD);
  EXPECT_TRUE(same(a.output.y_TD, b.output.y_TD));
  EXPECT_TRUE(same(a.x_gradient, b.x_gradient));
  EXPECT_EQ(b.output.record.dropped_pairs.item<int64_t>(), 0);
}

int64_t drops(const MoeConfig& config, const TokenContext& context) {
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), config, mesh);
  return run(moe, sample_x(24), context).output.record.dropped_pairs.item<int64_t>();
}

TEST(MoeLayerTest, C3_EvaluationHasItsOwnCapacity) {
  MoeConfig config = sample_moe_config();
  config.capacity.min = 1;
  config.capacity.factor = 0.5;
  TokenContext train = context_of(1, 24), eval = train;
  eval.mode = Mode::kEval;
  EXPECT_GT(drops(config, train), 0);
  EXPECT_EQ(drops(config, eval), 0);
  config.capacity.eval_factor = 0.25;
  EXPECT_GT(drops(config, eval), drops(config, train));
}

TEST(MoeLayerTest, TheScopeOfARankIsAllItsTokens) {
  MoeConfig config = sample_moe_config();
  config.capacity.min = 1;
  config.capacity.factor = 1.0;
  const int64_t one_group = drops(config, context_of(1, 24));
  const int64_t by_sequence = drops(config, context_of(4, 6));
  EXPECT_NE(one_group, by_sequence);
  config.capacity.scope = "rank";
  EXPECT_EQ(drops(config, context_of(4, 6)), one_group);
  config.capacity.scope = "group";
  TokenContext together = context_of(4, 6);
  together.tokens_per_group = 24;
  EXPECT_EQ(drops(config, together), one_group);
}

TEST(MoeLayerTest, PaddingIsNotRoutedNotCountedAndGivesZero) {
  MoeConfig config = sample_moe_config();
  config.capacity.factor = 0.5;
  config.capacity.min = 1;
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), config, mesh);
  TokenContext context = context_of(1, 24);
  context.valid_T = at::arange(24).remainder(3) != 0;
  const Pass pass = run(moe, sample_x(24), context);
  const RouterRecord& record = pass.output.record;
  const Tensor padding = context.valid_T.logical_not();
  EXPECT_TRUE(same(pass.output.y_TD.index({padding}), at::zeros({8, 6})));
  EXPECT_TRUE(same(pass.x_gradient.index({padding}), at::zeros({8, 6})));
  EXPECT_TRUE(same(record.probs_TE.index({padding}), at::zeros({8, 8})));
  EXPECT_FALSE(record.kept_TK.index({padding}).any().item<bool>());
  EXPECT_EQ(record.counts.tokens_G[0].item<double>(), 16);
  EXPECT_EQ(record.routed_pairs.item<int64_t>(), 32);
  // It takes no slot: C = 0.5 * 2 * 24 / 8 = 3 of the others.
  const double over = (record.counts.all_GE - 3).clamp_min(0).sum().item<double>();
  EXPECT_EQ(static_cast<double>(record.dropped_pairs.item<int64_t>()), over);
}

TEST(MoeLayerTest, CountsAreOfTheRoutingGroups) {
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), sample_moe_config(), mesh);
  TokenContext context = context_of(6, 4);
  context.tokens_per_group = 8;
  const RouterRecord record = run(moe, sample_x(24), context).output.record;
  ASSERT_EQ(record.counts.all_GE.size(0), 3);
  for (const int64_t g : {0, 1, 2}) {
    const Tensor ids_TK = record.experts_TK.narrow(0, 8 * g, 8);
    EXPECT_TRUE(
        same(record.counts.all_GE[g], at::bincount(ids_TK.flatten(), {}, 8).to(at::kDouble)));
    EXPECT_TRUE(
        same(record.counts.first_GE[g], at::bincount(ids_TK.select(1, 0), {}, 8).to(at::kDouble)));
    EXPECT_EQ(record.counts.tokens_G[g].item<double>(), 8);
  }
}

TEST(MoeLayerTest, RefusesGroupsThatDoNotDivideTheTokens) {
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), sample_moe_config(), mesh);
  TokenContext context = context_of(3, 4);
  context.tokens_per_group = 8;
  EXPECT_THROW(moe.layer.forward(sample_x(12), context), c10::Error);
}

TEST(MoeLayerTest, C3_ExpertsDoNotSeeTheJitter) {
  MoeConfig config = sample_moe_config(8);
  config.router.jitter_eps = 0.3;
  config.router.normalize = false;
  ModelConfig model = sample_model();
  model.ffn = "relu";
  config.expert_intermediate_size = 12;
  const Mesh mesh = solo_mesh();
  SampleMoe moe(model, config, mesh);
  const Tensor both = at::cat({at::eye(6), -at::eye(6)});
  for (int64_t e = 0; e < 8; ++e) {
    moe.weight("experts." + std::to_string(e) + ".up_proj.weight").copy_(both);
    moe.weight("experts." + std::to_string(e) + ".down_proj.weight").copy_(both.t());
  }
  const Tensor x_TD = sample_x(24);
  const MoeOutput output = run(moe, x_TD).output;
  EXPECT_TRUE(near(output.y_TD, x_TD, 1e-5));
  const Tensor plain_TE = at::matmul(x_TD, moe.weight("gate.weight").t());
  EXPECT_FALSE(at::allclose(output.record.logits_TE, plain_TE, 1e-3, 1e-3));
}

// Two experts for each of two tokens, one slot each. Token 0 splits 0.45 : 0.05
// between its two choices and token 1 0.5 : 0.4: token 1 is the more probable one,
// though not by its normalised weight.
TEST(MoeLayerTest, R1_ProbabilityPriorityComparesProbabilitiesNotNormalisedWeights) {
  MoeConfig config = sample_moe_config(2);
  config.num_experts = 6;
  config.capacity.factor = 0.01;
  config.capacity.min = 1;
  config.capacity.priority = "probability";
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), config, mesh);
  moe.weight("gate.weight").copy_(at::eye(6));
  const Tensor probs_TE = at::tensor({0.45, 0.05, 0.125, 0.125, 0.125, 0.125,  //
                                      0.5, 0.4, 0.025, 0.025, 0.025, 0.025},
                                     at::kFloat)
                              .view({2, 6});
  const RouterRecord record = run(moe, probs_TE.log()).output.record;
  EXPECT_FALSE(record.kept_TK[0][0].item<bool>());
  EXPECT_TRUE(record.kept_TK[1][0].item<bool>());
}

TEST(MoeLayerTest, C2_GShardTakesFirstChoicesFirstWhateverThePriority) {
  MoeConfig config = sample_moe_config(2);
  config.num_experts = 6;
  config.router.type = "gshard";
  config.router.second_expert_policy = "all";
  config.capacity.factor = 0.01;
  config.capacity.min = 1;
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), config, mesh);
  moe.weight("gate.weight").copy_(at::eye(6));
  const Tensor logits_TE = at::tensor({2.0, 1.0, 0.0, 0.0, 0.0, 0.0,  //
                                       1.0, 2.0, 0.0, 0.0, 0.0, 0.0},
                                      at::kFloat)
                               .view({2, 6});
  const Tensor kept_TK = run(moe, logits_TE).output.record.kept_TK;
  EXPECT_TRUE(same(kept_TK, bools({1, 0, 1, 0}).view({2, 2})));
}

TEST(MoeLayerTest, R12_TheSelectionBiasIsTheLayersOwnState) {
  MoeConfig config = sample_moe_config(2);
  config.router.score = "sigmoid";
  config.router.selection_bias = true;
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), config, mesh);
  const NamedState state = moe.layer.state();
  ASSERT_EQ(state.size(), 1U);
  EXPECT_EQ(state[0].first, "mlp.gate.e_score_correction_bias");
  const Tensor bias_E = state[0].second;
  EXPECT_TRUE(same(bias_E, at::zeros({8})));
  bias_E[7].fill_(5);
  const RouterRecord record = run(moe, sample_x(24)).output.record;
  EXPECT_EQ(record.counts.first_GE[0][7].item<double>(), 24);
  SampleMoe without(sample_model(), sample_moe_config(), mesh);
  EXPECT_TRUE(without.layer.state().empty());
}

TEST(MoeLayerTest, BatchesAreBitwiseRepeatable) {
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), sample_moe_config(), mesh);
  const Pass first = run(moe, sample_x(24));
  const Tensor gradient = moe.store.buffer(ParameterKind::kExpert).gradients.clone();
  const Pass second = run(moe, sample_x(24));
  EXPECT_TRUE(same(first.output.y_TD, second.output.y_TD));
  EXPECT_TRUE(same(first.x_gradient, second.x_gradient));
  EXPECT_TRUE(same(gradient, moe.store.buffer(ParameterKind::kExpert).gradients));
}

MoeConfig dropout_config(double rate) {
  MoeConfig config = sample_moe_config();
  config.expert_dropout = rate;
  return config;
}

TEST(MoeLayerTest, C3_ExpertDropoutIsOffInEvaluation) {
  const Mesh mesh = solo_mesh();
  SampleMoe plain(sample_model(), sample_moe_config(), mesh);
  SampleMoe dropout(sample_model(), dropout_config(0.4), mesh);
  TokenContext context = context_of(1, 24);
  EXPECT_FALSE(near(run(dropout, sample_x(24), context).output.y_TD,
                    run(plain, sample_x(24), context).output.y_TD, 1e-2));
  context.mode = Mode::kEval;
  EXPECT_TRUE(same(run(dropout, sample_x(24), context).output.y_TD,
                   run(plain, sample_x(24), context).output.y_TD));
}

// Inside the experts: the shared expert, and what does not pass through an expert,
// stay as they are.
TEST(MoeLayerTest, C3_ExpertDropoutLeavesTheSharedExpertAlone) {
  MoeConfig config = dropout_config(0.4);
  config.shared_experts = {1, 4, true};
  const Mesh mesh = solo_mesh();
  SampleMoe moe(sample_model(), config, mesh);
  for (int64_t e = 0; e < 8; ++e) {
    moe.weight("experts." + std::to_string(e) + ".down_proj.weight").zero_();
  }
  TokenContext context = context_of(1, 24);
  const Tensor trained = run(moe, sample_x(24), context).output.y_TD;
  context.mode = Mode::kEval;
  EXPECT_TRUE(same(trained, run(moe, sample_x(24), context).output.y_TD));
}

TEST(MoeLayerTest, C3_ExpertDropoutKeepsTheMeanAndDrawsForEachSequence) {
  constexpr int64_t kSequences = 4000;
  const Mesh mesh = solo_mesh();
  SampleMoe plain(sample_model(), sample_moe_config(), mesh);
  SampleMoe dropout(sample_model(), dropout_config(0.4), mesh);
  const Tensor x_TD = sample_x(1).repeat({kSequences, 1});
  const Tensor y_TD = run(dropout, x_TD, context_of(kSequences, 1)).output.y_TD;
  const Tensor expected_D = run(plain, sample_x(1)).output.y_TD[0];
  EXPECT_FALSE(at::equal(y_TD[0], y_TD[1]));
  const Tensor sigma_D = y_TD.std(0) / std::sqrt(static_cast<double>(kSequences));
  EXPECT_LT(((y_TD.mean(0) - expected_D).abs() / sigma_D).max().item<double>(), 4);
}

TEST(MoeLayerTest, ExpertDropoutDoesNotKnowTheLayout) {
  const Mesh mesh = solo_mesh();
  MoeConfig config = dropout_config(0.4);
  config.capacity.factor = 0.75;  // rows of the experts move with the batch
  config.capacity.min = 1;
  SampleMoe moe(sample_model(), config, mesh);
  const Tensor x_TD = sample_x(24);
  const Tensor whole = run(moe, x_TD, context_of(4, 6)).output.y_TD;
  const Tensor first = run(moe, x_TD.narrow(0, 0, 6), context_of(1, 6, 0)).output.y_TD;
  const Tensor rest = run(moe, x_TD.narrow(0, 6, 18), context_of(3, 6, 1)).output.y_TD;
  EXPECT_TRUE(near(at::cat({first, rest}), whole, 1e-6));
}

// Selective precision: the router of a bfloat16 layer computes in float32.
TEST(MoeLayerTest, C3_RouterLogitsOfABfloat16LayerAreThoseOfAFloat32Router) {
  MoeConfig config = sample_moe_config(1);
  config.router.type = "switch";
  const Mesh mesh = solo_mesh();
  SampleMoe half(sample_model(), config, mesh, {}, at::kBFloat16);
  const Tensor x_TD = sample_x(24).to(at::kBFloat16);
  const RouterRecord record = half.layer.forward(x_TD, context_of(1, 24)).record;
  const Tensor gate_ED = half.weight("gate.weight").to(at::kFloat);
  EXPECT_TRUE(same(record.logits_TE.detach(), at::linear(x_TD.to(at::kFloat), gate_ED)));
  EXPECT_TRUE(same(record.probs_TE.detach(), record.logits_TE.detach().softmax(1)));
}

// In bfloat16 the experts' rows are filled up with zeros, which must reach neither
// outputs nor gradients. The float32 layer has the same, rounded, weights.
TEST(MoeLayerTest, Bfloat16IsNearFloat32OfTheSameWeights) {
  MoeConfig config = sample_moe_config();
  config.shared_experts = {1, 4, true};
  const Mesh mesh = solo_mesh();
  SampleMoe half(sample_model(), config, mesh, {}, at::kBFloat16);
  SampleMoe full(sample_model(), config, mesh);
  for (const PlacedPart& placed : half.store.parts()) {
    full.store.weight_of(placed).copy_(half.store.weight_of(placed));
  }
  const Tensor x_TD = sample_x(24).to(at::kBFloat16);
  const Tensor leaf_TD = x_TD.clone().set_requires_grad(true);
  const MoeOutput output = half.layer.forward(leaf_TD, context_of(1, 24));
  torch::autograd::backward({output.y_TD}, {output_weight(output.y_TD).to(at::kBFloat16)});
  const Pass expected = run(full, x_TD.to(at::kFloat));
  EXPECT_TRUE(same(output.record.experts_TK, expected.output.record.experts_TK));
  EXPECT_EQ(output.y_TD.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(near(output.y_TD.to(at::kFloat), expected.output.y_TD, 0.03));
  EXPECT_TRUE(near(leaf_TD.grad().to(at::kFloat), expected.x_gradient, 0.03));
  for (const PlacedPart& placed : half.store.parts()) {
    EXPECT_TRUE(near(half.store.gradient_of(placed), full.store.gradient_of(placed), 0.05))
        << placed.part.name;
  }
}

}  // namespace
}  // namespace switchyard
