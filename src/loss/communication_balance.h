#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace switchyard {

// T tokens in G groups, E experts on N devices, K choices per token.

/// Which devices each token is sent to: (T, N) float64 zeros and ones.
///
///   chosen_TK    (T, K) int64 in [0, num_experts), -1 where there is no choice
///   num_experts  devices are groups of num_experts / devices consecutive experts
at::Tensor devices_of_tokens(const at::Tensor& chosen_TK, int64_t num_experts, int64_t devices);

/// Communication balance loss of DeepSeek-V2, arXiv:2405.04434 eqs. 29-31: sum_d f''_d P''_d
/// with
///
///   f''_d = N / (M T) sum_t 1(token t is sent to device d),   P''_d = sum of P_e over d's experts
///
/// which is linear in P: returned are f''_{d(e)} / E, what load_balancing_sum takes.
///
///   sent_GN  (G, N) tokens of the group sent to each device, before any drop; no gradient
///   tokens_G (G)    tokens of the group
///   limit    M, the most devices that a token may be sent to
///
/// The loss is 1 when every token goes to M devices and these are balanced. Returns (G, E)
/// float32; zero for a group without tokens. Local.
at::Tensor communication_fractions(const at::Tensor& sent_GN, const at::Tensor& tokens_G,
                                   int64_t limit, int64_t num_experts);

}  // namespace switchyard
