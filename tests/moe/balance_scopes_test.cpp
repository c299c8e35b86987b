#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "moe/balance_sums.h"
#include "moe/router_losses.h"
#include "moe/sample_moe.h"
#include "support/tensors.h"

// Every type of moe.balance in every scope that it has. T tokens, G routing groups, E
// experts, K experts per token, L = 2 MoE layers.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t T = 24, E = 4, K = 2, kSequence = 4;

const std::vector<std::string> kTypes = {"switch",
                                         "gshard",
                                         "topk",
                                         "hf",
                                         "sequence",
                                         "importance",
                                         "load",
                                         "expert",
                                         "device",
                                         "communication",
                                         "entropy",
                                         "local_entropy",
                                         "global_entropy",
                                         "sparsity_l1",
                                         "mean_importance",
                                         "mutual_information"};

/// Which of the 24 tokens are padding: none, or some and a whole group of 8.
enum class Padding { kNone, kSome };

struct Sample {
  Padding padding = Padding::kNone;

  Tensor valid_T() const {
    if (padding == Padding::kNone) return {};
    const Tensor valid = at::ones({T}, at::kBool);
    valid.narrow(0, 5, 3).fill_(false);
    valid.narrow(0, 16, 8).fill_(false);
    return valid;
  }
  double tokens() const { return padding == Padding::kNone ? 24 : 13; }

  /// The record of tokens [begin, begin + count), in the graph of their logits.
  RouterRecord record(const Tensor& logits_TE, int64_t begin, int64_t group) const {
    const int64_t count = logits_TE.size(0), groups = count / group;
    RouterRecord record;
    record.logits_TE = logits_TE;
    record.probs_TE = logits_TE.softmax(1);
    if (padding != Padding::kNone) {
      record.valid_T = valid_T().narrow(0, begin, count);
      record.probs_TE = record.probs_TE * record.valid_T.unsqueeze(1);
    }
    record.domains_T = at::arange(begin, begin + count).div(kSequence, "floor").remainder(2);
    record.tokens_per_sequence = kSequence;
    record.importance_TE = (2 * logits_TE).softmax(1);
    record.load_TE = (logits_TE * 1.5).sigmoid();
    const Tensor valid = record.valid_T.defined() ? record.valid_T : at::ones({count}, at::kBool);
    record.chosen_TK =
        at::where(valid.unsqueeze(1), std::get<1>(logits_TE.detach().topk(K, 1)), -1);
    const Tensor one_hot_TKE =
        at::one_hot(record.chosen_TK + 1, E + 1).narrow(2, 1, E).to(at::kDouble);
    const auto per_group = [&](const Tensor& x) { return x.reshape({groups, group, E}).sum(1); };
    record.counts = {per_group(one_hot_TKE.sum(1)), per_group(one_hot_TKE.select(1, 0)),
                     valid.to(at::kDouble).view({groups, group}).sum(1)};
    return record;
  }
};

struct Part {
  int64_t begin, count, group;
};
const std::vector<Part> kWhole = {{0, 24, 24}};
const std::vector<Part> kUneven = {{0, 4, 4}, {4, 12, 12}, {16, 8, 4}};
const std::vector<Part> kWholeGroups = {{0, 8, 8}, {8, 16, 8}};
const std::vector<Part> kOneOfGroups = {{0, 24, 8}};

MoeConfig config_of(const std::string& type, const std::string& scope, double coef = 1.0) {
  MoeConfig moe;
  moe.num_experts = E;
  moe.top_k = K;
  moe.router.n_group = 2;
  moe.router.topk_group = 2;
  BalanceConfig balance;
  balance.type = type;
  balance.coef = coef;
  balance.scope = scope;
  moe.balance = {balance};
  moe.z_loss.coef = 0;
  return moe;
}

std::vector<Tensor> sample_logits(at::ScalarType dtype) {
  std::vector<Tensor> logits;
  for (const char* layer : {"layer 0", "layer 1"}) {
    logits.push_back(
        (normal_tensor({T, E}, layer) + at::tensor({1.0, 0.5, 0.0, -0.5}, at::kDouble)).to(dtype));
  }
  return logits;
}

std::vector<RouterRecord> records_of(const Sample& sample, const std::vector<Tensor>& logits,
                                     const Part& part) {
  std::vector<RouterRecord> records;
  for (const Tensor& logits_TE : logits) {
    records.push_back(
        sample.record(logits_TE.narrow(0, part.begin, part.count), part.begin, part.group));
  }
  return records;
}

/// The losses of a step whose micro-batches, or ranks, are `parts`: a sum in one graph.
/// `aux` is the reported value.
Tensor objective_of(const MoeConfig& moe, const Sample& sample, const std::vector<Tensor>& logits,
                    const std::vector<Part>& parts, double* aux = nullptr) {
  BalanceCounts counts;
  for (const Part& part : parts) add_counts(records_of(sample, logits, part), moe, counts.global);
  counts.micro_batch = counts.global;
  Tensor total;
  for (const Part& part : parts) {
    const RouterLosses losses =
        router_losses(records_of(sample, logits, part), moe, counts, sample.tokens());
    total = total.defined() ? total + losses.objective : losses.objective;
    if (aux != nullptr) *aux += losses.aux.item<double>();
  }
  return total;
}

struct Result {
  double aux = 0;
  Tensor objective;
  std::vector<Tensor> gradients;
};

Result result_of(const MoeConfig& moe, const Sample& sample, const std::vector<Part>& parts) {
  Result result;
  const TensorFunction f = [&](const std::vector<Tensor>& in) {
    result.aux = 0;
    result.objective = objective_of(moe, sample, in, parts, &result.aux);
    return result.objective;
  };
  result.gradients = gradients_of(f, sample_logits(at::kFloat), at::ones({}));
  return result;
}

void expect_equal(const Result& actual, const Result& expected) {
  EXPECT_NEAR(actual.aux, expected.aux, 2e-6 * std::max(1.0, std::abs(expected.aux)));
  EXPECT_TRUE(near(actual.objective, expected.objective, 2e-6));
  for (const size_t l : {0, 1}) {
    EXPECT_TRUE(near(actual.gradients[l], expected.gradients[l], 2e-7));
    EXPECT_GT(expected.gradients[l].abs().max().item<float>(), 1e-4F);
  }
}

std::vector<MoeConfig> all_of_scope(const std::string& scope) {
  std::vector<MoeConfig> all;
  for (const std::string& type : kTypes) {
    if (type == "sequence" && scope != "group") continue;
    all.push_back(config_of(type, scope));
    if (type == "local_entropy" || type == "global_entropy") {
      all.push_back(config_of(type, scope));
      all.back().balance[0].domain = 1;
    }
    if (type == "global_entropy") {
      all.push_back(config_of(type, scope));
      all.back().balance[0].threshold = 2;
    }
  }
  return all;
}

std::string name_of(const MoeConfig& moe, const Sample& sample) {
  const BalanceConfig& balance = moe.balance[0];
  return balance.type + ", " + balance.scope + (balance.domain ? ", of a domain" : "") +
         (sample.padding == Padding::kNone ? "" : ", padded");
}

// The wide scopes are F of the whole however it is split; value and gradient.
TEST(BalanceScopesTest, AWideScopeIsOneBigGroupOnAnySplit) {
  for (const Padding padding : {Padding::kNone, Padding::kSome}) {
    const Sample sample{padding};
    for (const char* scope : {"global", "micro_batch"}) {
      for (const MoeConfig& moe : all_of_scope(scope)) {
        SCOPED_TRACE(name_of(moe, sample));
        MoeConfig group = moe;
        group.balance[0].scope = "group";
        const Result whole = result_of(group, sample, kWhole);
        expect_equal(result_of(moe, sample, kUneven), whole);
        expect_equal(result_of(moe, sample, kWholeGroups), whole);
      }
    }
  }
}

TEST(BalanceScopesTest, GroupsAreTheSameInAnyMicroBatch) {
  for (const Padding padding : {Padding::kNone, Padding::kSome}) {
    const Sample sample{padding};
    for (const MoeConfig& moe : all_of_scope("group")) {
      SCOPED_TRACE(name_of(moe, sample));
      expect_equal(result_of(moe, sample, kWholeGroups), result_of(moe, sample, kOneOfGroups));
    }
  }
}

// Otherwise the two tests above would see nothing.
TEST(BalanceScopesTest, AGroupsLossIsNotThatOfTheStep) {
  for (const MoeConfig& moe : all_of_scope("group")) {
    const BalanceConfig& balance = moe.balance[0];
    const double groups = result_of(moe, {}, kOneOfGroups).aux;
    const double step = result_of(moe, {}, kWhole).aux;
    const bool is_same = balance.type == "sequence" || balance.type == "local_entropy" ||
                         balance.type == "sparsity_l1";
    if (is_same) {
      EXPECT_NEAR(groups, step, 1e-6) << balance.type;
    } else {
      EXPECT_GT(std::abs(groups - step), 1e-4) << balance.type;
    }
  }
}

// One layer, two micro-batches of a sequence each.
TEST(BalanceScopesTest, GradientsMatchDifferencesInFloat64) {
  const Sample sample{Padding::kSome};
  const Tensor logits_TE = sample_logits(at::kDouble)[0].narrow(0, 0, 8).contiguous();
  for (const char* scope : {"group", "global"}) {
    for (const MoeConfig& moe : all_of_scope(scope)) {
      const TensorFunction f = [&](const std::vector<Tensor>& in) {
        return objective_of(moe, sample, in, {{0, 4, 4}, {4, 4, 4}});
      };
      EXPECT_TRUE(gradients_match(f, {logits_TE})) << name_of(moe, sample);
    }
  }
}

TEST(BalanceScopesTest, PaddingNeverCounts) {
  const Sample sample{Padding::kSome};
  const Tensor hidden_T = sample.valid_T().logical_not();
  for (const MoeConfig& moe : all_of_scope("global")) {
    SCOPED_TRACE(name_of(moe, sample));
    std::vector<Tensor> changed = sample_logits(at::kFloat);
    for (Tensor& logits_TE : changed) {
      logits_TE = at::where(hidden_T.unsqueeze(1), logits_TE.flip(1) * 3, logits_TE);
    }
    EXPECT_TRUE(same(objective_of(moe, sample, changed, kUneven),
                     objective_of(moe, sample, sample_logits(at::kFloat), kUneven)));
    const Result result = result_of(moe, sample, kUneven);
    for (const Tensor& gradient_TE : result.gradients) {
      EXPECT_EQ(gradient_TE.index({hidden_T}).abs().max().item<float>(), 0);
    }
  }
}

TEST(BalanceScopesTest, D2_OnlyTokensOfTheDomainCount) {
  const Tensor outside_T = at::arange(T).div(kSequence, "floor").remainder(2) == 0;
  for (const char* type : {"local_entropy", "global_entropy"}) {
    MoeConfig moe = config_of(type, "global");
    moe.balance[0].domain = 1;
    const Result result = result_of(moe, {}, kUneven);
    const Tensor p_TE = sample_logits(at::kDouble)[0].softmax(1).index({outside_T.logical_not()});
    const Tensor q_TE = sample_logits(at::kDouble)[1].softmax(1).index({outside_T.logical_not()});
    const auto by_hand = [&](const Tensor& p) {
      const Tensor over = std::string(type) == "local_entropy" ? p : p.mean(0, true);
      const Tensor entropy = at::special_entr(over).sum(1).mean();
      return (std::string(type) == "local_entropy" ? entropy : -entropy).item<double>();
    };
    EXPECT_NEAR(result.aux, (by_hand(p_TE) + by_hand(q_TE)) / 2, 1e-6) << type;
    for (const Tensor& gradient_TE : result.gradients) {
      EXPECT_EQ(gradient_TE.index({outside_T}).abs().max().item<float>(), 0);
    }
  }
}

TEST(BalanceScopesTest, D2_AnEmptyDomainGivesZeroAndNoGradient) {
  for (const char* type : {"local_entropy", "global_entropy"}) {
    for (const double threshold : {0.0, 1.0}) {
      for (const char* scope : {"group", "global"}) {
        MoeConfig moe = config_of(type, scope);
        moe.balance[0].domain = 7;
        moe.balance[0].threshold = threshold;
        const Result result = result_of(moe, {}, kUneven);
        EXPECT_EQ(result.aux, 0);
        for (const Tensor& gradient_TE : result.gradients) {
          EXPECT_TRUE(same(gradient_TE, at::zeros({T, E})));
        }
      }
    }
  }
}

TEST(BalanceScopesTest, L7_TheExpertLossIsThatOfTopkAndOneAtBalance) {
  expect_equal(result_of(config_of("expert", "group"), {}, kWholeGroups),
               result_of(config_of("topk", "group"), {}, kWholeGroups));
  MoeConfig moe = config_of("expert", "global_lagged");
  BalanceCounts counts;
  counts.lagged = uniform_counts(2, moe);
  for (const char* type : {"expert", "device"}) {
    moe.balance[0].type = type;
    EXPECT_NEAR(router_losses(records_of({}, sample_logits(at::kFloat), kWhole[0]), moe, counts, T)
                    .aux.item<double>(),
                1, 1e-6);
  }
}

TEST(BalanceScopesTest, R8_SequencesAreCountedWhateverTheGroups) {
  const Result whole = result_of(config_of("sequence", "group"), {}, kWhole);
  const std::vector<Part> sequences = {{0, 24, kSequence}};
  expect_equal(whole, result_of(config_of("topk", "group"), {}, sequences));
  const Sample padded{Padding::kSome};
  expect_equal(result_of(config_of("sequence", "group"), padded, kWhole),
               result_of(config_of("topk", "group"), padded, sequences));
}

/// Four tokens that choose experts 0 and 1 (device 0) or 2 and 3, evenly or not.
TEST(BalanceScopesTest, R8_TheThreeLossesAtBalanceAndCollapse) {
  for (const char* type : {"expert", "device", "communication"}) {
    MoeConfig moe = config_of(type, "group");
    moe.router.topk_group = 1;
    RouterRecord even;
    even.logits_TE = at::zeros({4, E});
    even.probs_TE = at::full({4, E}, 0.25);
    even.tokens_per_sequence = 4;
    even.chosen_TK = at::tensor({0, 1, 2, 3, 1, 0, 3, 2}, at::kLong).view({4, 2});
    even.counts = {at::full({1, E}, 2.0, at::kDouble), at::full({1, E}, 1.0, at::kDouble),
                   at::full({1}, 4.0, at::kDouble)};
    EXPECT_NEAR(router_losses({even}, moe, {}, 4).aux.item<double>(), 1, 1e-6) << type;
    RouterRecord collapsed = even;
    collapsed.probs_TE = at::tensor({0.5, 0.5, 0.0, 0.0}, at::kFloat).expand({4, E});
    collapsed.chosen_TK = at::tensor({0, 1}, at::kLong).expand({4, 2});
    collapsed.counts.all_GE = at::tensor({4.0, 4.0, 0.0, 0.0}, at::kDouble).view({1, E});
    EXPECT_NEAR(router_losses({collapsed}, moe, {}, 4).aux.item<double>(), 2, 1e-6) << type;
  }
}

TEST(BalanceScopesTest, C1_ImportanceIsOfTheGatesOrElseOfTheProbabilities) {
  std::vector<RouterRecord> records = records_of({}, sample_logits(at::kFloat), kWhole[0]);
  const auto variation = [](const Tensor& gates_TE) {
    const Tensor v_E = gates_TE.to(at::kDouble).sum(0);
    return ((v_E - v_E.mean()).square().mean() / v_E.mean().square()).item<double>();
  };
  const MoeConfig moe = config_of("importance", "group");
  EXPECT_NEAR(router_losses({records[0]}, moe, {}, T).aux.item<double>(),
              variation(records[0].importance_TE), 1e-6);
  records[0].importance_TE = Tensor();
  EXPECT_NEAR(router_losses({records[0]}, moe, {}, T).aux.item<double>(),
              variation(records[0].probs_TE), 1e-6);
  EXPECT_NEAR(router_losses({records[0]}, config_of("load", "group"), {}, T).aux.item<double>(),
              variation(records[0].load_TE), 1e-6);
}

// A router with sigmoid scores has other probabilities than the softmax.
TEST(BalanceScopesTest, L4_TheEntropyIsOfTheSoftmaxOfTheLogits) {
  RouterRecord record = records_of({}, sample_logits(at::kFloat), kWhole[0])[0];
  const Tensor mean_E = record.logits_TE.to(at::kDouble).softmax(1).mean(0);
  record.probs_TE = at::full({T, E}, 0.25);
  const double expected = -at::special_entr(mean_E).sum().item<double>();
  EXPECT_NEAR(router_losses({record}, config_of("entropy", "group"), {}, T).aux.item<double>(),
              expected, 1e-6);
  record.logits_TE = Tensor();
  EXPECT_NEAR(router_losses({record}, config_of("entropy", "group"), {}, T).aux.item<double>(),
              -std::log(static_cast<double>(E)), 1e-6);
}

TEST(BalanceScopesTest, R10_AnAdaptiveCoefficientReplacesTheEntrys) {
  const std::vector<RouterRecord> plain = records_of({}, sample_logits(at::kFloat), kWhole[0]);
  MoeConfig moe = config_of("topk", "group", 100);
  moe.balance.push_back(config_of("importance", "group", 100).balance[0]);
  std::vector<RouterRecord> adaptive = plain;
  adaptive[0].balance_coef_N = at::tensor({0.5, 0.0}, at::kFloat);
  adaptive[1].balance_coef_N = at::tensor({0.25, 2.0}, at::kFloat);
  const auto alone = [&](size_t layer, const char* type) {
    return router_losses({plain[layer]}, config_of(type, "group"), {}, T).aux.item<double>();
  };
  const RouterLosses losses = router_losses(adaptive, moe, {}, T);
  EXPECT_NEAR(losses.objective.item<double>(),
              (0.5 * alone(0, "topk") + 0.25 * alone(1, "topk") + 2 * alone(1, "importance")) / 2,
              1e-5);
  EXPECT_NEAR(losses.aux.item<double>(), router_losses(plain, moe, {}, T).aux.item<double>(), 1e-6);
}

TEST(BalanceScopesTest, TheRoutersOwnPenaltyJoinsTheObjectiveAlone) {
  const Sample sample{Padding::kSome};
  MoeConfig moe = config_of("topk", "group", 0);
  std::vector<RouterRecord> records = records_of(sample, sample_logits(at::kFloat), kWhole[0]);
  records[1].regularizer_T = at::arange(T).to(at::kFloat).set_requires_grad(true);
  records[1].regularizer_coef = 0.5;
  const RouterLosses losses = router_losses(records, moe, {}, sample.tokens());
  // Tokens 0 to 4 and 8 to 15 are valid; one of two layers has a penalty.
  EXPECT_NEAR(losses.objective.item<double>(), 0.5 * (10 + 92) / 13.0 / 2, 1e-5);
  EXPECT_NEAR(losses.aux.item<double>(),
              router_losses({records[0], records[1]}, moe, {}, 13).aux.item<double>(), 1e-6);
  losses.objective.backward();
  const Tensor expected_T = sample.valid_T().to(at::kFloat) * (0.5 / 13 / 2);
  EXPECT_TRUE(near(records[1].regularizer_T.grad(), expected_T, 1e-7));
}

TEST(BalanceScopesTest, NoTokensGiveZeroAndCountsOfTheSameShape) {
  for (const char* scope : {"group", "global"}) {
    for (const MoeConfig& moe : all_of_scope(scope)) {
      SCOPED_TRACE(name_of(moe, {}));
      RouterRecord record = records_of({}, sample_logits(at::kFloat), {0, 4, 4})[0];
      for (Tensor* x : {&record.logits_TE, &record.probs_TE, &record.importance_TE, &record.load_TE,
                        &record.chosen_TK, &record.domains_T}) {
        *x = x->narrow(0, 0, 0);
      }
      record.counts = {at::zeros({1, E}, at::kDouble), at::zeros({1, E}, at::kDouble),
                       at::zeros({1}, at::kDouble)};
      StepCounts none, some;
      add_counts({record, record}, moe, none);
      add_counts(records_of({}, sample_logits(at::kFloat), kWhole[0]), moe, some);
      EXPECT_EQ(none.sums[0].defined(), some.sums[0].defined());
      if (none.sums[0].defined()) {
        EXPECT_EQ(none.sums[0].sizes(), some.sums[0].sizes());
      }
      BalanceCounts counts;
      counts.global = none;
      EXPECT_EQ(router_losses({record, record}, moe, counts, 24).aux.item<double>(), 0);
    }
  }
}

TEST(BalanceScopesTest, RefusesScopesThatALossHasNot) {
  const std::vector<RouterRecord> records = records_of({}, sample_logits(at::kFloat), kWhole[0]);
  for (const std::string& type : kTypes) {
    MoeConfig moe = config_of(type, "global_lagged");
    BalanceCounts counts;
    counts.lagged = uniform_counts(2, moe);
    if (type == "sequence" || has_balance_sums(moe.balance[0])) {
      EXPECT_THROW(router_losses(records, moe, counts, T), c10::Error) << type;
    } else {
      EXPECT_GT(std::abs(router_losses(records, moe, counts, T).aux.item<double>()), 0) << type;
    }
  }
  EXPECT_THROW(objective_of(config_of("sequence", "global"), {}, sample_logits(at::kFloat), kWhole),
               c10::Error);
}

TEST(BalanceScopesTest, RefusesWhatIsMissing) {
  RouterRecord record = records_of({}, sample_logits(at::kFloat), kWhole[0])[0];
  StepCounts step;
  add_counts({record}, step);  // without the sums
  EXPECT_THROW(router_losses({record}, config_of("importance", "global"), {step, {}, {}}, T),
               c10::Error);
  record.load_TE = Tensor();
  EXPECT_THROW(router_losses({record}, config_of("load", "group"), {}, T), c10::Error);
  record.domains_T = Tensor();
  MoeConfig moe = config_of("global_entropy", "group");
  moe.balance[0].domain = 0;
  EXPECT_THROW(router_losses({record}, moe, {}, T), c10::Error);
}

}  // namespace
}  // namespace switchyard
