#pragma once

#include <ATen/core/Tensor.h>

#include "config/run_config.h"
#include "moe/routing.h"

namespace switchyard {

// G routing groups, E experts, S sums of a loss.

/// Which part of moe.balance an entry is.
///
///   kFractions  E sum f P with load fractions f without a gradient: switch, gshard, topk, hf,
///               sequence, expert, device, communication
///   kTokens     a sum over tokens, the same in any scope: sparsity_l1, and local_entropy
///               without a domain
///   kSums       a function of sums over the tokens of its scope: importance, load, entropy,
///               global_entropy, local_entropy of a domain, mean_importance, mutual_information
enum class BalanceKind { kFractions, kTokens, kSums };
BalanceKind balance_kind(const BalanceConfig& balance);

/// Whether the loss needs more sums over its scope than load counts are: those of kSums, and
/// `communication`.
bool has_balance_sums(const BalanceConfig& balance);

/// What `balance` is a function of, summed over the valid tokens of each routing group:
/// (G, S) float64, in the graph (not that of `communication`). S depends on the type:
///
///   communication                (N) tokens sent to each of the moe.router.n_group devices
///   importance, load             (E) sums of importance_TE (or else of p), of load_TE
///   entropy, global_entropy,     (E + 1) sums of p, tokens; of `domain` alone if given.
///   mean_importance              entropy: p = softmax of the logits
///   local_entropy                (2) sum of H(p), tokens; of `domain` alone if given
///   sparsity_l1                  (2) sum of the tokens' values, tokens
///   mutual_information           (E + 2) sums of p, sum of H(p), tokens
///
/// Throws c10::Error where the router gives no load_TE, or the tokens' domains are unknown.
at::Tensor balance_sums(const BalanceConfig& balance, const MoeConfig& moe,
                        const RouterRecord& record);

/// The loss of kTokens and kSums types from balance_sums, or from their total over a wider
/// scope: (G) float64, 0 for a group without tokens.
at::Tensor loss_of_sums(const BalanceConfig& balance, const at::Tensor& sums_GS);

}  // namespace switchyard
