#include "moe/routers/dselect_k_router.h"

#include <ATen/ATen.h>

#include <bit>
#include <cmath>

#include "moe/routers/jitter.h"
#include "moe/select_top_k.h"

// T tokens, D model width, E experts, L selectors, M bits.

namespace switchyard {
namespace {

using at::Tensor;

constexpr double kEntropyEpsilon = 1e-6, kLeastReachable = 1e-6, kLeastProbability = 1e-20;

int64_t code_bits(int64_t num_experts) {
  return std::max<int64_t>(1, std::bit_width(static_cast<uint64_t>(num_experts - 1)));
}

}  // namespace

Tensor smooth_step(const Tensor& t, double gamma) {
  const Tensor u = (t / gamma + 0.5).clamp(0, 1);
  return u * u * (3 - 2 * u);
}

DSelectKRouter::DSelectKRouter(const RouterConfig& config, const RouterPlace& place)
    : config_(config), place_(place), bits_(code_bits(place.num_experts)) {}

std::vector<RouterWeight> DSelectKRouter::weights() const {
  const int64_t D = place_.hidden_size, L = place_.top_k;
  const double narrow = config_.dselect_k.gamma / 100;
  return {{"gate.selector.weight", {L, D}, {Init::Type::kNormal, place_.init_std, {}}},
          {"gate.code.weight",
           {L * bits_, D},
           {Init::Type::kUniform, narrow / std::sqrt(static_cast<double>(D)), {}}},
          {"gate.code.bias", {L * bits_}, {Init::Type::kUniform, narrow, {}}}};
}

Routing DSelectKRouter::route(const Tensor& x_TD, const RouterTensors& tensors,
                              const TokenContext& context) const {
  const int64_t T = x_TD.size(0), L = place_.top_k, E = place_.num_experts;
  const Tensor input_TD = jitter(to_router_dtype(x_TD), config_.jitter_eps, place_.layer, context);
  const Tensor share_TL = gate_logits(input_TD, tensors.weights[0]).softmax(/*dim=*/1);
  const Tensor z_TLM =
      (gate_logits(input_TD, tensors.weights[1]) + to_router_dtype(tensors.weights[2]))
          .view({T, L, bits_});
  const Tensor r_TLE = select(z_TLM);
  const Tensor q_TE = (share_TL.unsqueeze(2) * r_TLE).sum(/*dim=*/1);

  Routing routing;
  routing.logits_TE = q_TE.clamp_min(kLeastProbability).log();
  routing.probs_TE = q_TE / q_TE.sum(/*dim=*/1, /*keepdim=*/true).clamp_min(kLeastProbability);
  routing.experts_TK = select_top_k(q_TE.detach(), E);
  routing.weights_TK = q_TE.gather(/*dim=*/1, routing.experts_TK);
  routing.kept_TK = routing.weights_TK.detach() > 0;
  routing.regularizer_T = regularizer(r_TLE);
  routing.regularizer_coef = 1;
  return routing;
}

Tensor DSelectKRouter::select(const Tensor& z_TLM) const {
  const Tensor one_TLM = smooth_step(z_TLM, config_.dselect_k.gamma),
               zero_TLM = smooth_step(-z_TLM, config_.dselect_k.gamma);
  const Tensor expert_E = at::arange(place_.num_experts, z_TLM.options().dtype(at::kLong));
  Tensor r_TLE;
  for (int64_t j = 0; j < bits_; ++j) {
    const Tensor bit_E = expert_E.bitwise_right_shift(bits_ - 1 - j).bitwise_and(1).to(at::kBool);
    const Tensor factor_TLE = at::where(bit_E, one_TLM.select(/*dim=*/2, j).unsqueeze(2),
                                        zero_TLM.select(/*dim=*/2, j).unsqueeze(2));
    r_TLE = j == 0 ? factor_TLE : r_TLE * factor_TLE;
  }
  return r_TLE;
}

Tensor DSelectKRouter::regularizer(const Tensor& r_TLE) const {
  const Tensor entropy_T = -(r_TLE * (r_TLE + kEntropyEpsilon).log()).sum({1, 2});
  const Tensor entropy_term_T = config_.dselect_k.entropy_coef * entropy_T;
  if (place_.num_experts == int64_t{1} << bits_) return entropy_term_T;
  const Tensor reachable_TL = r_TLE.sum(/*dim=*/2).clamp_min(kLeastReachable);
  return entropy_term_T + reachable_TL.reciprocal().sum(/*dim=*/1);
}

}  // namespace switchyard
