#include "moe/router_losses.h"

#include <ATen/ATen.h>

#include "loss/communication_balance.h"
#include "loss/device_balance.h"
#include "loss/router_z.h"
#include "moe/balance_sums.h"
#include "moe/choices_per_token.h"
#include "ops/host_copy.h"

// L MoE layers, T tokens of this micro-batch, G routing groups, E experts.

namespace switchyard {
namespace {

using at::Tensor;

const StepCounts& counts_of_scope(const std::string& scope, const BalanceCounts& counts) {
  const StepCounts& chosen = scope == "global"          ? counts.global
                             : scope == "global_lagged" ? counts.lagged
                                                        : counts.micro_batch;
  TORCH_CHECK(chosen.defined(), "balance scope ", scope, ": its counts were not made");
  return chosen;
}

/// Expert counts per sequence, whatever the routing groups are.
RoutingCounts counts_of_sequences(const RouterRecord& record) {
  const int64_t T = record.probs_TE.size(0), E = record.probs_TE.size(1),
                S = record.tokens_per_sequence, B = T == 0 ? 1 : T / S;
  TORCH_CHECK(record.chosen_TK.defined() && (T == 0 || (S > 0 && T % S == 0)),
              "balance type sequence: ", T, " tokens, sequences of ", S);
  const Tensor chosen_TE = at::zeros({T, E + 1}, record.probs_TE.options().dtype(at::kDouble))
                               .scatter_(/*dim=*/1, record.chosen_TK + 1, 1.0)
                               .narrow(/*dim=*/1, 1, E);
  const Tensor tokens_T = record.valid_T.defined()
                              ? record.valid_T
                              : at::ones({T}, record.chosen_TK.options().dtype(at::kBool));
  return {chosen_TE.reshape({B, T / B, E}).sum(/*dim=*/1),
          {},
          tokens_T.view({B, T / B}).sum(/*dim=*/1).to(at::kDouble)};
}

/// One entry of moe.balance in one layer.
struct Entry {
  const MoeConfig& moe;
  size_t index;
  const BalanceCounts& counts;
  int64_t top_k;  // choices per token

  const BalanceConfig& balance() const { return moe.balance[index]; }
  bool is_of_group() const { return balance().scope == "group"; }
  const StepCounts& step() const { return counts_of_scope(balance().scope, counts); }
  /// (1, S): the scope's sums of this entry.
  Tensor step_sums(int64_t layer) const {
    TORCH_CHECK(step().sums.size() > index && step().sums[index].defined(), "balance type ",
                balance().type, ", scope ", balance().scope, ": its sums were not made");
    return step().sums[index].narrow(/*dim=*/0, layer, 1);
  }
};

void check_scope(const BalanceConfig& balance) {
  const bool fits = balance.type == "sequence"
                        ? balance.scope == "group"
                        : balance.scope != "global_lagged" || !has_balance_sums(balance);
  TORCH_CHECK(fits, "moe.balance: type ", balance.type, " has no scope ", balance.scope);
}

/// Counts of one layer in the entry's scope: G = 1 for the step-wide scopes.
RoutingCounts counts_of_layer(const Entry& entry, const RouterRecord& record, int64_t layer) {
  if (entry.balance().type == "sequence") return counts_of_sequences(record);
  if (entry.is_of_group()) return record.counts;
  const StepCounts& step = entry.step();
  return {step.all_LE.narrow(0, layer, 1), step.first_LE.narrow(0, layer, 1),
          at::full({1}, step.tokens, step.all_LE.options())};
}

/// f_GE of one layer, as load_balancing_sum takes it.
Tensor fractions_of_layer(const Entry& entry, const RouterRecord& record, int64_t layer) {
  const std::string& type = entry.balance().type;
  const RouterConfig& router = entry.moe.router;
  const RoutingCounts counts = counts_of_layer(entry, record, layer);
  if (type == "communication") {
    const Tensor sent_GN = entry.is_of_group() ? balance_sums(entry.balance(), entry.moe, record)
                                               : entry.step_sums(layer);
    return communication_fractions(sent_GN, counts.tokens_G, router.topk_group,
                                   entry.moe.num_experts);
  }
  if (type == "device") {
    return device_fractions(load_fractions(counts, BalanceType::kTopK, entry.top_k),
                            router.n_group);
  }
  const bool is_topk = type == "sequence" || type == "expert";
  return load_fractions(counts, is_topk ? BalanceType::kTopK : parse_balance(type), entry.top_k);
}

/// Each layer's E sum f P, as a sum over tokens; for `hf` with f averaged over layers.
std::vector<Tensor> fraction_terms(const Entry& entry, const std::vector<RouterRecord>& records) {
  std::vector<Tensor> fractions, terms;
  for (size_t l = 0; l < records.size(); ++l) {
    fractions.push_back(fractions_of_layer(entry, records[l], static_cast<int64_t>(l)));
  }
  if (entry.balance().type == "hf") {
    const Tensor mean = at::stack(fractions).mean(/*dim=*/0);
    for (Tensor& f_GE : fractions) f_GE = mean;
  }
  for (size_t l = 0; l < records.size(); ++l) {
    terms.push_back(load_balancing_sum(fractions[l], records[l].probs_TE));
  }
  return terms;
}

/// One layer's F of its groups' sums, or of the scope's, times tokens.
Tensor sums_term(const Entry& entry, const RouterRecord& record, int64_t layer) {
  const Tensor sums_GS = balance_sums(entry.balance(), entry.moe, record);
  const Tensor& tokens_G = record.counts.tokens_G;
  if (entry.is_of_group() || balance_kind(entry.balance()) == BalanceKind::kTokens)
    return (tokens_G * loss_of_sums(entry.balance(), sums_GS)).sum();
  const Tensor mine_1S = sums_GS.sum(/*dim=*/0, /*keepdim=*/true);
  const Tensor all_1S = mine_1S + (entry.step_sums(layer) - mine_1S).detach();
  const Tensor loss = loss_of_sums(entry.balance(), all_1S).squeeze(0);
  const double tokens = entry.step().tokens;
  return tokens * loss + ((tokens_G.sum() - tokens) * loss).detach();
}

/// Each layer's loss, as a sum over tokens.
std::vector<Tensor> layer_terms(const Entry& entry, const std::vector<RouterRecord>& records) {
  check_scope(entry.balance());
  if (balance_kind(entry.balance()) == BalanceKind::kFractions)
    return fraction_terms(entry, records);
  std::vector<Tensor> terms;
  for (size_t l = 0; l < records.size(); ++l) {
    terms.push_back(sums_term(entry, records[l], static_cast<int64_t>(l)));
  }
  return terms;
}

Tensor sum_of(const std::vector<Tensor>& terms) {
  Tensor total = terms.front();
  for (size_t i = 1; i < terms.size(); ++i) total = total + terms[i];
  return total;
}

/// Sum over layers of each term times the layer's own coefficient.
Tensor weighted_sum(const std::vector<Tensor>& terms, const std::vector<RouterRecord>& records,
                    size_t index) {
  std::vector<Tensor> weighted;
  for (size_t l = 0; l < terms.size(); ++l) {
    weighted.push_back(records[l].balance_coef_N[static_cast<int64_t>(index)] * terms[l]);
  }
  return sum_of(weighted);
}

/// The router's own penalty, summed over tokens; undefined where it has none.
Tensor regularizer_sum(const RouterRecord& record) {
  if (!record.regularizer_T.defined()) return {};
  const Tensor counted_T = record.valid_T.defined()
                               ? at::where(record.valid_T, record.regularizer_T, 0.0)
                               : record.regularizer_T;
  return record.regularizer_coef * counted_T.sum();
}

/// Padding excluded. Where there is none no device has to be asked.
double routed_tokens(const RouterRecord& record) {
  const Tensor& tokens_G = record.counts.tokens_G;
  if (tokens_G.is_cpu() || record.valid_T.defined()) return tokens_G.sum().item<double>();
  return static_cast<double>(record.probs_TE.size(0));
}

double layer_factor(const std::string& layer_reduce, size_t layers) {
  return layer_reduce == "sum" ? 1.0 : 1.0 / static_cast<double>(layers);
}

}  // namespace

bool uses_scope(const MoeConfig& moe, const std::string& scope) {
  for (const BalanceConfig& balance : moe.balance) {
    if (balance.scope == scope) return true;
  }
  return false;
}

void add_counts(const std::vector<RouterRecord>& records, StepCounts& total) {
  if (records.empty()) return;
  std::vector<Tensor> all, first;
  for (const RouterRecord& record : records) {
    all.push_back(record.counts.all_GE.sum(/*dim=*/0));
    first.push_back(record.counts.first_GE.sum(/*dim=*/0));
  }
  const double tokens = routed_tokens(records.front());
  if (!total.defined()) {
    total = {at::stack(all), at::stack(first), tokens};
    return;
  }
  total.all_LE.add_(at::stack(all));
  total.first_LE.add_(at::stack(first));
  total.tokens += tokens;
}

void add_counts(const std::vector<RouterRecord>& records, const MoeConfig& moe, StepCounts& total) {
  add_counts(records, total);
  if (records.empty()) return;
  total.sums.resize(moe.balance.size());
  for (size_t n = 0; n < moe.balance.size(); ++n) {
    const BalanceConfig& balance = moe.balance[n];
    const bool is_wide = balance.scope == "global" || balance.scope == "micro_batch";
    if (!is_wide || !has_balance_sums(balance)) continue;
    std::vector<Tensor> sums;
    for (const RouterRecord& record : records) {
      sums.push_back(balance_sums(balance, moe, record).detach().sum(/*dim=*/0));
    }
    const Tensor sums_LS = at::stack(sums);
    total.sums[n] = total.sums[n].defined() ? total.sums[n] + sums_LS : sums_LS;
  }
}

StepCounts StepCounts::to(c10::Device device) const {
  if (!defined()) return {};
  StepCounts there{copy_to_device(all_LE, device), copy_to_device(first_LE, device), tokens};
  for (const Tensor& sums_LS : sums) {
    there.sums.push_back(sums_LS.defined() ? copy_to_device(sums_LS, device) : sums_LS);
  }
  return there;
}

StepCounts uniform_counts(int64_t layers, const MoeConfig& moe) {
  const auto E = static_cast<double>(moe.num_experts),
             choices = static_cast<double>(choices_per_token(moe, Mode::kTrain));
  return {at::full({layers, moe.num_experts}, choices / E, at::kDouble),
          at::full({layers, moe.num_experts}, 1 / E, at::kDouble), 1.0};
}

RouterLosses router_losses(const std::vector<RouterRecord>& records, const MoeConfig& moe,
                           const BalanceCounts& counts, double step_tokens) {
  RouterLosses losses;
  losses.objective = at::zeros({}, at::kFloat);
  losses.aux = losses.z = at::zeros({}, at::kDouble);
  if (records.empty()) return losses;
  const int64_t choices = choices_per_token(moe, Mode::kTrain);
  for (size_t n = 0; n < moe.balance.size(); ++n) {
    const BalanceConfig& balance = moe.balance[n];
    const bool hf = balance.type == "hf";
    const double factor =
        layer_factor(hf ? "mean" : balance.layer_reduce, records.size()) / step_tokens;
    const std::vector<Tensor> terms = layer_terms({moe, n, counts, choices}, records);
    const Tensor term = factor * sum_of(terms);
    losses.aux = losses.aux + term.detach().to(at::kDouble);
    losses.objective = losses.objective + (records.front().balance_coef_N.defined()
                                               ? factor * weighted_sum(terms, records, n)
                                               : balance.coef * term);
  }
  const auto layers = static_cast<double>(records.size());
  Tensor z = at::zeros({}, at::kFloat);
  for (const RouterRecord& record : records) {
    if (record.logits_TE.defined()) z = z + router_z_sum(record.logits_TE, record.valid_T);
    const Tensor own = regularizer_sum(record);
    if (own.defined()) losses.objective = losses.objective + own / (layers * step_tokens);
  }
  z = layer_factor(moe.z_loss.layer_reduce, records.size()) / step_tokens * z;
  losses.z = z.detach().to(at::kDouble);
  losses.objective =
      (losses.objective + moe.z_loss.coef * z).to(records.front().probs_TE.scalar_type());
  return losses;
}

}  // namespace switchyard
