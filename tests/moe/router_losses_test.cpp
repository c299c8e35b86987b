#include "moe/router_losses.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "moe/sample_moe.h"
#include "support/tensors.h"

// L MoE layers, T tokens, G routing groups, E experts, K experts per token.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t E = 4, K = 2;

/// The record of a softmax top-k layer without drops; logits stay a leaf's.
RouterRecord record_of(const Tensor& logits_TE, int64_t groups, const Tensor& valid_T = {}) {
  RouterRecord record;
  record.logits_TE = logits_TE;
  record.probs_TE = logits_TE.softmax(1);
  record.valid_T = valid_T;
  const Tensor counted_T = valid_T.defined() ? valid_T : at::ones({logits_TE.size(0)}, at::kBool);
  if (valid_T.defined()) record.probs_TE = record.probs_TE * valid_T.unsqueeze(1);
  record.experts_TK = std::get<1>(logits_TE.detach().topk(K, 1));
  const Tensor chosen_TKE =
      at::one_hot(record.experts_TK, E).to(at::kDouble) * counted_T.view({-1, 1, 1});
  const auto per_group = [&](const Tensor& x) { return x.view({groups, -1, E}).sum(1); };
  record.counts = {per_group(chosen_TKE.sum(1)), per_group(chosen_TKE.select(1, 0)),
                   counted_T.to(at::kDouble).view({groups, -1}).sum(1)};
  return record;
}

Tensor sample_logits(int64_t T, const std::string& name) {
  return (normal_tensor({T, E}, name) + at::tensor({1.0, 0.5, 0.0, -0.5}, at::kDouble))
      .to(at::kFloat);
}

/// The records of two layers over tokens [begin, begin + count) of 24.
std::vector<RouterRecord> two_layers(int64_t begin, int64_t count, int64_t groups) {
  std::vector<RouterRecord> records;
  for (const char* layer : {"layer 0", "layer 1"}) {
    records.push_back(
        record_of(sample_logits(24, layer).narrow(0, begin, count).contiguous(), groups));
  }
  return records;
}

MoeConfig config_of(const std::string& type, const std::string& scope, double coef = 1.0) {
  MoeConfig moe;
  moe.num_experts = E;
  moe.top_k = K;
  moe.balance = {BalanceConfig{type, coef, scope, "mean"}};
  moe.z_loss.coef = 0;
  return moe;
}

/// E sum_e f_e P_e of one group, from its definition.
double loss_by_hand(const std::string& type, const Tensor& logits_TE) {
  const Tensor ids_TK = std::get<1>(logits_TE.topk(K, 1));
  const bool first = type == "switch" || type == "gshard";
  const Tensor counted = first ? ids_TK.select(1, 0) : ids_TK.flatten();
  const double per_token = type == "topk" ? K : 1;
  const Tensor f_E = at::bincount(counted, {}, E).to(at::kDouble) /
                     (static_cast<double>(logits_TE.size(0)) * per_token);
  return (E * f_E * logits_TE.to(at::kDouble).softmax(1).mean(0)).sum().item<double>();
}

TEST(RouterLossesTest, GroupScopeIsTheMeanOverGroupsAndLayers) {
  for (const char* type : {"switch", "gshard", "topk"}) {
    double expected = 0;
    for (const char* layer : {"layer 0", "layer 1"}) {
      for (const int64_t g : {0, 1, 2}) {
        expected += loss_by_hand(type, sample_logits(24, layer).narrow(0, 8 * g, 8)) / 6;
      }
    }
    const RouterLosses losses =
        router_losses(two_layers(0, 24, 3), config_of(type, "group", 0.5), {}, 24);
    EXPECT_NEAR(losses.aux.item<double>(), expected, 1e-5) << type;
    EXPECT_NEAR(losses.objective.item<double>(), 0.5 * expected, 1e-5) << type;
  }
}

TEST(RouterLossesTest, SumOverLayersIsLTimesTheMean) {
  MoeConfig moe = config_of("topk", "group");
  moe.z_loss = {1.0, "mean"};
  const RouterLosses mean = router_losses(two_layers(0, 24, 3), moe, {}, 24);
  moe.balance[0].layer_reduce = "sum";
  moe.z_loss.layer_reduce = "sum";
  const RouterLosses sum = router_losses(two_layers(0, 24, 3), moe, {}, 24);
  EXPECT_NEAR(sum.aux.item<double>(), 2 * mean.aux.item<double>(), 1e-5);
  EXPECT_NEAR(sum.z.item<double>(), 2 * mean.z.item<double>(), 1e-5);
  EXPECT_NEAR(sum.objective.item<double>(), 2 * mean.objective.item<double>(), 1e-5);
}

/// Logits whose softmax is all on one expert.
Tensor collapsed(int64_t T, int64_t expert) {
  Tensor logits_TE = at::zeros({T, E});
  logits_TE.select(1, expert).fill_(100);
  return logits_TE;
}

// Layer 0 sends all tokens to experts 0 and 2, layer 1 to experts 1 and 3.
TEST(RouterLossesTest, HfAveragesLayersBeforeTheProduct) {
  std::vector<RouterRecord> records;
  for (const int64_t expert : {0, 1}) {
    RouterRecord record = record_of(collapsed(8, expert), 1);
    record.counts.all_GE = at::zeros({1, E}, at::kDouble);
    record.counts.all_GE[0][expert] = 8;      // first choices
    record.counts.all_GE[0][expert + 2] = 8;  // second ones
    records.push_back(record);
  }
  // f = 1/2 each, P = 1/2, 1/2, 0, 0: E (1/4 + 1/4) = 2. Per layer it would be E.
  EXPECT_NEAR(router_losses(records, config_of("hf", "group"), {}, 8).aux.item<double>(), 2, 1e-5);
  MoeConfig sum = config_of("hf", "group");
  sum.balance[0].layer_reduce = "sum";
  EXPECT_NEAR(router_losses(records, sum, {}, 8).aux.item<double>(), 2, 1e-5);
  EXPECT_NEAR(router_losses(records, config_of("topk", "group"), {}, 8).aux.item<double>(), E / 2.0,
              1e-5);
}

TEST(RouterLossesTest, HfEqualsItsDefinitionOnRandomLayers) {
  Tensor f_E = at::zeros({E}, at::kDouble), p_E = at::zeros({E}, at::kDouble);
  for (const char* layer : {"layer 0", "layer 1"}) {
    const Tensor logits_TE = sample_logits(24, layer);
    f_E += at::bincount(std::get<1>(logits_TE.topk(K, 1)).flatten(), {}, E) / 24.0 / 2;
    p_E += logits_TE.to(at::kDouble).softmax(1).mean(0) / 2;
  }
  EXPECT_NEAR(
      router_losses(two_layers(0, 24, 1), config_of("hf", "group"), {}, 24).aux.item<double>(),
      (E * f_E * p_E).sum().item<double>(), 1e-5);
}

/// Counts of the whole step: micro-batches of 6, 2 and 16 tokens.
constexpr std::pair<int64_t, int64_t> kMicroBatches[] = {{0, 6}, {6, 2}, {8, 16}};

StepCounts counts_of_step() {
  StepCounts counts;
  for (const auto& [begin, count] : kMicroBatches) add_counts(two_layers(begin, count, 1), counts);
  return counts;
}

TEST(AddCountsTest, SumsGroupsAndMicroBatches) {
  StepCounts whole;
  add_counts(two_layers(0, 24, 3), whole);
  const StepCounts parts = counts_of_step();
  EXPECT_TRUE(same(parts.all_LE, whole.all_LE));
  EXPECT_TRUE(same(parts.first_LE, whole.first_LE));
  EXPECT_EQ(parts.tokens, 24);
  EXPECT_TRUE(same(parts.all_LE.sum(1), at::full({2}, 48.0, at::kDouble)));
  EXPECT_TRUE(same(parts.first_LE.sum(1), at::full({2}, 24.0, at::kDouble)));
  const Tensor ids_TK = std::get<1>(sample_logits(24, "layer 1").topk(K, 1));
  EXPECT_TRUE(same(parts.all_LE[1], at::bincount(ids_TK.flatten(), {}, E).to(at::kDouble)));
}

TEST(AddCountsTest, NoLayersLeaveItUndefined) {
  StepCounts counts;
  add_counts({}, counts);
  EXPECT_FALSE(counts.defined());
}

/// Objective and the gradient at the logits of both layers, summed over micro-batches.
struct Result {
  double objective = 0;
  Tensor gradient_LTE = at::zeros({2, 24, E});
};

template <class Batches>
Result run_step(const MoeConfig& moe, const BalanceCounts& counts, const Batches& batches) {
  Result result;
  for (const auto& [begin, count] : batches) {
    std::vector<Tensor> leaves;
    std::vector<RouterRecord> records;
    for (const char* layer : {"layer 0", "layer 1"}) {
      leaves.push_back(
          sample_logits(24, layer).narrow(0, begin, count).clone().set_requires_grad(true));
      records.push_back(record_of(leaves.back(), 1));
    }
    const Tensor objective = router_losses(records, moe, counts, /*step_tokens=*/24).objective;
    objective.backward();
    result.objective += objective.item<double>();
    for (const int64_t l : {0, 1}) {
      result.gradient_LTE[l].narrow(0, begin, count).copy_(leaves[l].grad());
    }
  }
  return result;
}

TEST(RouterLossesTest, GlobalScopeOverMicroBatchesIsOneBigBatch) {
  constexpr std::pair<int64_t, int64_t> kOneBatch[] = {{0, 24}};
  for (const char* type : {"switch", "gshard", "topk", "hf"}) {
    MoeConfig global = config_of(type, "global"), group = config_of(type, "group");
    global.z_loss.coef = group.z_loss.coef = 0.1;
    BalanceCounts counts;
    counts.global = counts_of_step();
    const Result parts = run_step(global, counts, kMicroBatches);
    const Result whole = run_step(group, {}, kOneBatch);
    EXPECT_NEAR(parts.objective, whole.objective, 1e-5) << type;
    EXPECT_TRUE(near(parts.gradient_LTE, whole.gradient_LTE, 1e-6)) << type;
    EXPECT_GT(whole.gradient_LTE.abs().max().item<float>(), 1e-4F);
    // A micro-batch's own fractions give another loss.
    EXPECT_GT(std::abs(run_step(group, {}, kMicroBatches).objective - whole.objective), 1e-3);
  }
}

TEST(RouterLossesTest, EachScopeReadsItsOwnCounts) {
  const auto counts_at = [](int64_t expert) {
    Tensor counts_LE = at::zeros({2, E}, at::kDouble);
    counts_LE.select(1, expert).fill_(10);
    return StepCounts{counts_LE, counts_LE, 10};
  };
  BalanceCounts counts{counts_at(0), counts_at(1), counts_at(2)};
  const auto loss_of = [&](const std::string& scope) {
    return router_losses(two_layers(0, 24, 1), config_of("switch", scope), counts, 24)
        .aux.item<double>();
  };
  // f is one-hot, so that the loss is E times the mean probability of that expert.
  const auto mean_probability = [](int64_t expert) {
    const Tensor both = at::cat({sample_logits(24, "layer 0"), sample_logits(24, "layer 1")});
    return both.softmax(1).select(1, expert).mean().item<double>();
  };
  EXPECT_NEAR(loss_of("global"), E * mean_probability(0), 1e-5);
  EXPECT_NEAR(loss_of("global_lagged"), E * mean_probability(1), 1e-5);
  EXPECT_NEAR(loss_of("micro_batch"), E * mean_probability(2), 1e-5);
}

TEST(RouterLossesTest, ALayerReadsItsOwnRow) {
  BalanceCounts counts;
  const Tensor counts_LE =
      at::tensor({10.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 10.0}, at::kDouble).view({2, E});
  counts.global = {counts_LE, counts_LE, 10};
  const double p0 = sample_logits(24, "layer 0").softmax(1).select(1, 0).mean().item<double>();
  const double p1 = sample_logits(24, "layer 1").softmax(1).select(1, 3).mean().item<double>();
  EXPECT_NEAR(router_losses(two_layers(0, 24, 1), config_of("switch", "global"), counts, 24)
                  .aux.item<double>(),
              E * (p0 + p1) / 2, 1e-5);
}

TEST(RouterLossesTest, CountsThatWereNotMadeAreAMistake) {
  for (const char* scope : {"global", "global_lagged", "micro_batch"}) {
    EXPECT_THROW(router_losses(two_layers(0, 24, 1), config_of("switch", scope), {}, 24),
                 c10::Error);
  }
}

TEST(RouterLossesTest, UniformCountsGiveTheValueOfPerfectBalanceToAnyRouter) {
  for (const auto& [type, value] :
       {std::pair{"switch", 1.0}, {"gshard", 1.0}, {"topk", 1.0}, {"hf", 1.0 * K}}) {
    const MoeConfig moe = config_of(type, "global_lagged");
    BalanceCounts counts;
    counts.lagged = uniform_counts(2, moe);
    EXPECT_NEAR(router_losses(two_layers(0, 24, 1), moe, counts, 24).aux.item<double>(), value,
                1e-5)
        << type;
  }
}

TEST(RouterLossesTest, SeveralBalanceLossesAddUp) {
  MoeConfig both = config_of("switch", "group", 0.5);
  both.balance.push_back({"topk", 2.0, "group", "sum"});
  const double a =
      router_losses(two_layers(0, 24, 3), config_of("switch", "group"), {}, 24).aux.item<double>();
  const double b =
      router_losses(two_layers(0, 24, 3), config_of("topk", "group"), {}, 24).aux.item<double>();
  const RouterLosses losses = router_losses(two_layers(0, 24, 3), both, {}, 24);
  EXPECT_NEAR(losses.aux.item<double>(), a + 2 * b, 1e-5);
  EXPECT_NEAR(losses.objective.item<double>(), 0.5 * a + 2.0 * 2 * b, 1e-5);
}

TEST(RouterLossesTest, TheZLossIsTheMeanOverTokensAndLayers) {
  MoeConfig moe = config_of("switch", "group", 0);
  moe.z_loss.coef = 0.001;
  const RouterLosses losses = router_losses(
      {record_of(at::zeros({6, E}), 1), record_of(at::zeros({6, E}) + 1, 1)}, moe, {}, 6);
  const double ln_e = std::log(static_cast<double>(E));
  const double expected = (ln_e * ln_e + (ln_e + 1) * (ln_e + 1)) / 2;
  EXPECT_NEAR(losses.z.item<double>(), expected, 1e-5);
  EXPECT_NEAR(losses.objective.item<double>(), 0.001 * expected, 1e-8);
}

TEST(RouterLossesTest, PaddingIsNeitherCountedNorDividedBy) {
  const Tensor logits_TE = sample_logits(12, "layer 0");
  const Tensor valid_T = bools({1, 1, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0});
  const Tensor index = valid_T.nonzero().squeeze(1);
  MoeConfig moe = config_of("topk", "group");
  moe.z_loss.coef = 1;
  const RouterLosses padded = router_losses({record_of(logits_TE, 1, valid_T)}, moe, {}, 7);
  const RouterLosses alone =
      router_losses({record_of(logits_TE.index_select(0, index), 1)}, moe, {}, 7);
  EXPECT_NEAR(padded.aux.item<double>(), alone.aux.item<double>(), 1e-5);
  EXPECT_NEAR(padded.z.item<double>(), alone.z.item<double>(), 1e-5);
}

TEST(RouterLossesTest, NoLayersAndNoTokensGiveZero) {
  MoeConfig moe = config_of("hf", "group");
  moe.z_loss.coef = 1;
  EXPECT_EQ(router_losses({}, moe, {}, 24).objective.item<double>(), 0);
  Tensor logits_TE = at::empty({0, E}).set_requires_grad(true);
  RouterRecord record = record_of(at::zeros({1, E}), 1);
  record.logits_TE = logits_TE;
  record.probs_TE = logits_TE.softmax(1);
  record.counts.tokens_G.zero_();
  const RouterLosses losses = router_losses({record, record}, moe, {}, 24);
  EXPECT_EQ(losses.objective.item<double>(), 0);
  losses.objective.backward();
  EXPECT_EQ(logits_TE.grad().numel(), 0);
}

TEST(UsesScopeTest, FindsAnyEntry) {
  MoeConfig moe = config_of("switch", "group");
  moe.balance.push_back({"topk", 1.0, "global", "mean"});
  EXPECT_TRUE(uses_scope(moe, "group"));
  EXPECT_TRUE(uses_scope(moe, "global"));
  EXPECT_FALSE(uses_scope(moe, "global_lagged"));
}

}  // namespace
}  // namespace switchyard
