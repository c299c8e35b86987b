#include "moe/router_losses.h"

#include <ATen/ATen.h>

#include "loss/router_z.h"
#include "moe/choices_per_token.h"

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

/// f_GE of one layer in the scope of `balance`: G = 1 for the step-wide scopes.
Tensor fractions_of_layer(const BalanceConfig& balance, const RouterRecord& record, size_t layer,
                          const BalanceCounts& counts, int64_t top_k) {
  const BalanceType type = parse_balance(balance.type);
  if (balance.scope == "group") return load_fractions(record.counts, type, top_k);
  const StepCounts& step = counts_of_scope(balance.scope, counts);
  const auto row = static_cast<int64_t>(layer);
  return load_fractions({step.all_LE.narrow(0, row, 1), step.first_LE.narrow(0, row, 1),
                         at::full({1}, step.tokens, at::kDouble)},
                        type, top_k);
}

/// Sum over layers of the balance sums; for `hf` with f averaged over layers.
Tensor balance_sum(const BalanceConfig& balance, const std::vector<RouterRecord>& records,
                   const BalanceCounts& counts, int64_t top_k) {
  std::vector<Tensor> fractions;
  for (size_t layer = 0; layer < records.size(); ++layer) {
    fractions.push_back(fractions_of_layer(balance, records[layer], layer, counts, top_k));
  }
  if (parse_balance(balance.type) == BalanceType::kHf) {
    const Tensor mean = at::stack(fractions).mean(/*dim=*/0);
    for (Tensor& f_GE : fractions) f_GE = mean;
  }
  Tensor total;
  for (size_t layer = 0; layer < records.size(); ++layer) {
    const Tensor term = load_balancing_sum(fractions[layer], records[layer].probs_TE);
    total = total.defined() ? total + term : term;
  }
  return total;
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
  const double tokens = records.front().counts.tokens_G.sum().item<double>();
  if (!total.defined()) {
    total = {at::stack(all), at::stack(first), tokens};
    return;
  }
  total.all_LE.add_(at::stack(all));
  total.first_LE.add_(at::stack(first));
  total.tokens += tokens;
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
  if (records.empty()) return losses;
  const int64_t choices = choices_per_token(moe, Mode::kTrain);
  for (const BalanceConfig& balance : moe.balance) {
    const bool hf = balance.type == "hf";
    const double factor =
        layer_factor(hf ? "mean" : balance.layer_reduce, records.size()) / step_tokens;
    const Tensor term = factor * balance_sum(balance, records, counts, choices);
    losses.aux += term.item<double>();
    losses.objective = losses.objective + balance.coef * term;
  }
  Tensor z;
  for (const RouterRecord& record : records) {
    const Tensor term = router_z_sum(record.logits_TE, record.valid_T);
    z = z.defined() ? z + term : term;
  }
  z = layer_factor(moe.z_loss.layer_reduce, records.size()) / step_tokens * z;
  losses.z = z.item<double>();
  losses.objective = losses.objective + moe.z_loss.coef * z;
  return losses;
}

}  // namespace switchyard
