#include "moe/routers/noisy_topk_router.h"

#include <ATen/ATen.h>

#include "moe/routers/draws.h"
#include "moe/routers/jitter.h"
#include "moe/select_top_k.h"

// T tokens, E experts in A groups of B, K experts per token, of them K2 in each of K1
// groups; G routing groups of S tokens.

namespace switchyard {
namespace {

using at::Tensor;

/// The experts of the chosen groups with the product of both gates, best first.
void combine_levels(const NoisyGate& first, const NoisyGate& second, int64_t A, int64_t B,
                    Routing& routing) {
  const int64_t T = first.experts_NK.size(0), K1 = first.experts_NK.size(1),
                K2 = second.experts_NK.size(1);
  const Tensor groups_TK1 = first.experts_NK;
  const auto of_chosen_groups = [&](const Tensor& all_NK2) {
    return all_NK2.view({T, A, K2}).gather(/*dim=*/1, groups_TK1.unsqueeze(2).expand({T, K1, K2}));
  };
  const Tensor ids_TK =
      (groups_TK1.unsqueeze(2) * B + of_chosen_groups(second.experts_NK)).reshape({T, K1 * K2});
  const Tensor weights_TK =
      (first.weights_NK.unsqueeze(2) * of_chosen_groups(second.weights_NK)).reshape({T, K1 * K2});
  const Tensor order_TK = select_top_k(weights_TK.detach(), K1 * K2);
  routing.experts_TK = ids_TK.gather(/*dim=*/1, order_TK);
  routing.weights_TK = weights_TK.gather(/*dim=*/1, order_TK);
}

/// load_TE of two levels: P_primary times the mean of P_i over the tokens of the
/// routing group that chose group i.
Tensor hierarchical_load(const NoisyGate& first, const NoisyGate& second,
                         const TokenContext& context) {
  const int64_t T = first.load_NM.size(0), A = first.load_NM.size(1), B = second.load_NM.size(1);
  if (T == 0) return second.load_NM.reshape({T, A * B});
  const int64_t S = context.tokens_per_group;
  TORCH_CHECK(T % S == 0, "routing groups of ", S, " tokens do not fit ", T, " tokens");
  Tensor chose_TA = (first.gates_NM.detach() > 0).to(first.load_NM.dtype());
  if (context.valid_T.defined()) chose_TA = chose_TA * context.valid_T.unsqueeze(1);
  const Tensor chose_GSA1 = chose_TA.view({T / S, S, A, 1});
  const Tensor mean_G1AB =
      (chose_GSA1 * second.load_NM.view({T / S, S, A, B})).sum(/*dim=*/1, /*keepdim=*/true) /
      chose_GSA1.sum(/*dim=*/1, /*keepdim=*/true).clamp_min(1);
  return (first.load_NM.view({T / S, S, A, 1}) * mean_G1AB).reshape({T, A * B});
}

}  // namespace

NoisyTopKRouter::NoisyTopKRouter(const RouterConfig& config, const RouterPlace& place)
    : config_(config),
      place_(place),
      groups_(config.noisy_topk.groups),
      groups_per_token_(config.noisy_topk.groups_per_token),
      experts_per_group_(place.num_experts / groups_) {
  if (groups_ == 1) return;
  TORCH_CHECK(place.num_experts % groups_ == 0 && groups_per_token_ <= groups_ &&
                  place.top_k % groups_per_token_ == 0 &&
                  place.top_k / groups_per_token_ <= experts_per_group_,
              "noisy_topk: ", place.top_k, " of ", place.num_experts, " experts from ",
              groups_per_token_, " of ", groups_, " groups");
}

std::vector<RouterWeight> NoisyTopKRouter::weights() const {
  const auto zeros = [&](const char* name, int64_t rows) {
    return RouterWeight{name, {rows, place_.hidden_size}, {Init::Type::kZeros, 0, {}}};
  };
  const int64_t E = place_.num_experts;
  if (groups_ == 1) return {zeros("gate.weight", E), zeros("gate.noise.weight", E)};
  return {zeros("gate.weight", E), zeros("gate.noise.weight", E),
          zeros("gate.group.weight", groups_), zeros("gate.group.noise.weight", groups_)};
}

Routing NoisyTopKRouter::route(const Tensor& x_TD, const RouterTensors& tensors,
                               const TokenContext& context) const {
  const Tensor input_TD = jitter(to_router_dtype(x_TD), config_.jitter_eps, place_.layer, context);
  Routing routing =
      groups_ == 1 ? flat(input_TD, tensors, context) : hierarchical(input_TD, tensors, context);
  routing.kept_TK = all_kept(routing.experts_TK);
  return routing;
}

NoisyGate NoisyTopKRouter::gate(const Tensor& clean_TE, const Tensor& raw_TE, int64_t choices,
                                int64_t top_k, const std::string& level,
                                const TokenContext& context) const {
  Tensor noise_NM;
  if (context.mode == Mode::kTrain) {
    noise_NM = normal_draws(clean_TE.size(0), clean_TE.size(1),
                            level + "/" + std::to_string(place_.layer), context)
                   .view({-1, choices});
  }
  return noisy_gate(clean_TE.reshape({-1, choices}), raw_TE.reshape({-1, choices}), noise_NM,
                    config_.noisy_topk.noise_eps, top_k);
}

Routing NoisyTopKRouter::flat(const Tensor& x_TD, const RouterTensors& tensors,
                              const TokenContext& context) const {
  Routing routing;
  routing.logits_TE = gate_logits(x_TD, tensors.weights[0]);
  NoisyGate chosen = gate(routing.logits_TE, gate_logits(x_TD, tensors.weights[1]),
                          place_.num_experts, place_.top_k, "gate_noise", context);
  routing.probs_TE = chosen.noisy_NM.softmax(/*dim=*/1);
  routing.experts_TK = chosen.experts_NK;
  routing.weights_TK = chosen.weights_NK;
  routing.importance_TE = chosen.gates_NM;
  routing.load_TE = chosen.load_NM;
  return routing;
}

Routing NoisyTopKRouter::hierarchical(const Tensor& x_TD, const RouterTensors& tensors,
                                      const TokenContext& context) const {
  const int64_t T = x_TD.size(0), A = groups_, B = experts_per_group_;
  Routing routing;
  routing.logits_TE = gate_logits(x_TD, tensors.weights[0]);
  const NoisyGate first =
      gate(gate_logits(x_TD, tensors.weights[2]), gate_logits(x_TD, tensors.weights[3]), A,
           groups_per_token_, "group_gate_noise", context);
  const NoisyGate second = gate(routing.logits_TE, gate_logits(x_TD, tensors.weights[1]), B,
                                place_.top_k / groups_per_token_, "gate_noise", context);
  const auto product = [&](const Tensor& groups_TA, const Tensor& experts_NB) {
    return (groups_TA.unsqueeze(2) * experts_NB.view({T, A, B})).reshape({T, A * B});
  };
  routing.probs_TE = product(first.noisy_NM.softmax(/*dim=*/1), second.noisy_NM.softmax(1));
  routing.importance_TE = product(first.gates_NM, second.gates_NM);
  routing.load_TE = hierarchical_load(first, second, context);
  combine_levels(first, second, A, B, routing);
  return routing;
}

}  // namespace switchyard
