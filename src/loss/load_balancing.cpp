#include "loss/load_balancing.h"

#include <ATen/ATen.h>

namespace switchyard {

BalanceType parse_balance(const std::string& word) {
  if (word == "switch") return BalanceType::kSwitch;
  if (word == "gshard") return BalanceType::kGShard;
  if (word == "topk") return BalanceType::kTopK;
  TORCH_CHECK(word == "hf", "moe.balance.type: ", word);
  return BalanceType::kHf;
}

at::Tensor load_fractions(const RoutingCounts& counts, BalanceType type, int64_t top_k) {
  const bool first_choices = type == BalanceType::kSwitch || type == BalanceType::kGShard;
  const at::Tensor& chosen_GE = first_choices ? counts.first_GE : counts.all_GE;
  const double choices_per_token = type == BalanceType::kTopK ? static_cast<double>(top_k) : 1.0;
  const at::Tensor tokens_G1 = counts.tokens_G.unsqueeze(1).clamp_min(1.0);
  return (chosen_GE / (tokens_G1 * choices_per_token)).to(at::kFloat);
}

at::Tensor load_balancing_sum(const at::Tensor& f_GE, const at::Tensor& probs_TE) {
  const int64_t T = probs_TE.size(0), E = probs_TE.size(1), G = f_GE.size(0);
  TORCH_CHECK(f_GE.dim() == 2 && f_GE.size(1) == E && (G == 1 || (G > 0 && T % G == 0) || T == 0),
              "load_balancing_sum: f_GE ", f_GE.sizes(), ", probs_TE ", probs_TE.sizes());
  if (T == 0) return probs_TE.sum();
  const at::Tensor probs_GE = probs_TE.view({G, T / G, E}).sum(/*dim=*/1);
  return static_cast<double>(E) * (f_GE * probs_GE).sum();
}

}  // namespace switchyard
