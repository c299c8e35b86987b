#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace switchyard {

// T tokens in G routing groups of equal length, E experts, K experts per token.

/// Which normalisation of the load-balancing loss: the same name hides several.
///
///   kSwitch  E sum_e f_e P_e, f of first choices
///            Switch Transformers, arXiv:2101.03961 eqs. 4-6
///   kGShard  E^2 mean_e (m_e c_e), c of first choices: the same number as kSwitch
///            GShard, arXiv:2006.16668 algorithm 1, as released
///   kTopK    E/(K T) sum_e cnt_e P_e
///            MegaBlocks, Megatron-Core, DeepSeekMoE
///   kHf      E sum_e f_e P_e with sum f = K, f and P averaged over the MoE layers first
///            Mixtral and OLMoE in Hugging Face transformers
///
/// At perfect balance the values are 1, 1, 1 and K; when one expert has all
/// probability and every first choice, E, E, E/K and E.
enum class BalanceType { kSwitch, kGShard, kTopK, kHf };

/// From `moe.balance.type`. Throws c10::Error for another word (the config has
/// been checked before).
BalanceType parse_balance(const std::string& word);

/// How many (token, choice) pairs went to each expert, before any drop.
struct RoutingCounts {
  at::Tensor all_GE;    // (G, E) float64: over all choices
  at::Tensor first_GE;  // (G, E) float64: over first choices
  at::Tensor tokens_G;  // (G) float64: tokens that were routed (padding is not)
};

/// The load fractions f_GE that enter the loss, float32 and without a gradient:
/// counts over tokens as `type` defines it; zero for a group without tokens.
at::Tensor load_fractions(const RoutingCounts& counts, BalanceType type, int64_t top_k);

/// The balance loss as a sum over tokens, E sum_t sum_e f_{g(t),e} p_{t,e}: divided
/// by the routed tokens of the whole step it is the token-weighted mean over
/// groups of E sum_e f_e P_e.
///
///   f_GE      (G, E) float32; G = 1 serves all tokens (the global scopes)
///   probs_TE  (T, E) float32, rows sum to 1 (zero for padding). The gradient flows here.
///
/// Returns a float32 scalar. Local: no communication.
at::Tensor load_balancing_sum(const at::Tensor& f_GE, const at::Tensor& probs_TE);

}  // namespace switchyard
