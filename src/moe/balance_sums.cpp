#include "moe/balance_sums.h"

#include <ATen/ATen.h>

#include "loss/communication_balance.h"
#include "loss/entropy.h"
#include "loss/limoe_entropy.h"
#include "loss/mean_importance.h"
#include "loss/mutual_information.h"
#include "loss/negative_entropy.h"
#include "loss/sparsity_l1.h"
#include "loss/squared_variation.h"

// T tokens, G routing groups, E experts, S sums of a loss.

namespace switchyard {
namespace {

using at::Tensor;

/// The tokens that count: (T) bool, or undefined: all.
Tensor counted_tokens(const BalanceConfig& balance, const RouterRecord& record) {
  if (!balance.domain) return record.valid_T;
  TORCH_CHECK(record.domains_T.defined(),
              "moe.balance.domain: the domains of the tokens are not known");
  const Tensor inside_T = record.domains_T == *balance.domain;
  return record.valid_T.defined() ? inside_T.logical_and(record.valid_T) : inside_T;
}

/// Sums over each group's tokens that count of values_TX (T, X): (G, X) float64.
Tensor sum_groups(const Tensor& values_TX, const Tensor& counted_T, int64_t groups) {
  const int64_t T = values_TX.size(0);
  const Tensor masked_TX =
      counted_T.defined() ? at::where(counted_T.unsqueeze(1), values_TX, 0.0) : values_TX;
  return masked_TX.view({groups, T / groups, values_TX.size(1)})
      .sum(/*dim=*/{1}, /*keepdim=*/false, at::kDouble);
}

bool is_of_mean(const std::string& type) {
  return type == "entropy" || type == "global_entropy" || type == "mean_importance" ||
         type == "mutual_information";
}

/// The value of each token that `local_entropy`, `sparsity_l1` and `mutual_information` sum.
Tensor token_values(const std::string& type, const Tensor& probs_TE) {
  return type == "sparsity_l1" ? sparsity_l1(probs_TE) : entropy(probs_TE);
}

}  // namespace

BalanceKind balance_kind(const BalanceConfig& balance) {
  const std::string& type = balance.type;
  if (type == "sparsity_l1" || (type == "local_entropy" && !balance.domain))
    return BalanceKind::kTokens;
  const bool is_of_sums = type == "importance" || type == "load" || type == "local_entropy";
  return is_of_sums || is_of_mean(type) ? BalanceKind::kSums : BalanceKind::kFractions;
}

bool has_balance_sums(const BalanceConfig& balance) {
  return balance.type == "communication" || balance_kind(balance) == BalanceKind::kSums;
}

Tensor balance_sums(const BalanceConfig& balance, const MoeConfig& moe,
                    const RouterRecord& record) {
  const std::string& type = balance.type;
  const int64_t G = record.counts.tokens_G.size(0);
  const Tensor counted_T = counted_tokens(balance, record);
  if (type == "communication") {
    TORCH_CHECK(record.chosen_TK.defined(), "balance type communication: no choices recorded");
    return sum_groups(
        devices_of_tokens(record.chosen_TK, record.probs_TE.size(1), moe.router.n_group), counted_T,
        G);
  }
  if (type == "importance") {
    return sum_groups(record.importance_TE.defined() ? record.importance_TE : record.probs_TE,
                      counted_T, G);
  }
  if (type == "load") {
    TORCH_CHECK(record.load_TE.defined(), "balance type load: this router gives no smooth load");
    return sum_groups(record.load_TE, counted_T, G);
  }
  std::vector<Tensor> parts;
  if (is_of_mean(type)) {
    const bool of_logits = type == "entropy" && record.logits_TE.defined();
    parts.push_back(of_logits ? record.logits_TE.softmax(/*dim=*/1) : record.probs_TE);
  }
  if (!is_of_mean(type) || type == "mutual_information")
    parts.push_back(token_values(type, record.probs_TE).unsqueeze(1));
  parts.push_back(at::ones({record.probs_TE.size(0), 1}, record.probs_TE.options()));
  return sum_groups(at::cat(parts, /*dim=*/1), counted_T, G);
}

Tensor loss_of_sums(const BalanceConfig& balance, const Tensor& sums_GS) {
  const std::string& type = balance.type;
  if (type == "importance" || type == "load") return squared_variation(sums_GS);
  const int64_t S = sums_GS.size(1), E = type == "mutual_information" ? S - 2 : S - 1;
  const Tensor tokens_G = sums_GS.select(/*dim=*/1, S - 1);
  const Tensor sums_GE = sums_GS.narrow(/*dim=*/1, 0, E);
  if (type == "entropy") return negative_entropy(sums_GE, tokens_G);
  if (type == "global_entropy") return global_entropy(sums_GE, tokens_G, balance.threshold);
  if (type == "mean_importance") return mean_importance(sums_GE, tokens_G);
  if (type == "mutual_information")
    return mutual_information(sums_GE, sums_GS.select(/*dim=*/1, E), tokens_G);
  if (type == "local_entropy") return local_entropy(sums_GS.select(/*dim=*/1, 0), tokens_G);
  return mean_of_tokens(sums_GE, tokens_G).squeeze(1);  // sparsity_l1
}

}  // namespace switchyard
