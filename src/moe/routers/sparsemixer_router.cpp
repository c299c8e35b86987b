#include "moe/routers/sparsemixer_router.h"

#include <ATen/ATen.h>

#include <limits>

#include "moe/routers/draws.h"
#include "moe/routers/jitter.h"
#include "moe/select_top_k.h"

// T tokens, E experts, K choices.

namespace switchyard {
namespace {

using at::Tensor;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// z with -inf where an expert is taken or too far below the best that is not.
Tensor masked_logits(const Tensor& logits_TE, const Tensor& taken_TE, double eps) {
  const Tensor z_TE = logits_TE.detach();
  const Tensor best_T1 = z_TE.masked_fill(taken_TE, -kInfinity).amax(/*dim=*/1, /*keepdim=*/true);
  const Tensor far_TE = (best_T1 - z_TE) / at::maximum(z_TE.abs(), best_T1) > 2 * eps;
  return logits_TE.masked_fill(far_TE.logical_or(taken_TE), -kInfinity);
}

/// `value` going forward, the gradient to `way`.
Tensor straight_through(const Tensor& value, const Tensor& way) {
  return value.detach() + (way - way.detach());
}

}  // namespace

SparseMixerRouter::SparseMixerRouter(const RouterConfig& config, const RouterPlace& place)
    : config_(config), place_(place) {}

std::vector<RouterWeight> SparseMixerRouter::weights() const { return {gate_weight(place_)}; }

Routing SparseMixerRouter::route(const Tensor& x_TD, const RouterTensors& tensors,
                                 const TokenContext& context) const {
  Routing routing;
  const Tensor input_TD = jitter(to_router_dtype(x_TD), config_.jitter_eps, place_.layer, context);
  routing.logits_TE = gate_logits(input_TD, tensors.weights[0]);
  routing.probs_TE = routing.logits_TE.softmax(/*dim=*/1);

  Tensor taken_TE =
      at::zeros(routing.logits_TE.sizes(), at::TensorOptions(x_TD.device()).dtype(at::kBool));
  std::vector<Tensor> experts, weights, scales;
  for (int64_t k = 0; k < place_.top_k; ++k) {
    const Choice choice = choose(routing.logits_TE, taken_TE, k, context);
    taken_TE = taken_TE.scatter(/*dim=*/1, choice.expert_T1, true);
    experts.push_back(choice.expert_T1);
    weights.push_back(choice.weight_T1);
    scales.push_back(choice.scale_T1);
  }
  routing.experts_TK = at::cat(experts, /*dim=*/1);
  routing.weights_TK = at::cat(weights, /*dim=*/1);
  routing.kept_TK = all_kept(routing.experts_TK);
  if (context.mode != Mode::kTrain) return routing;
  const Tensor scale_TK = at::cat(scales, /*dim=*/1);
  if (config_.sparsemixer.expert_gradient == "algorithm1") {
    routing.value_scale_TK = scale_TK;
  } else {
    routing.weights_TK = straight_through(routing.weights_TK * scale_TK, routing.weights_TK);
  }
  return routing;
}

SparseMixerRouter::Choice SparseMixerRouter::choose(const Tensor& logits_TE, const Tensor& taken_TE,
                                                    int64_t choice,
                                                    const TokenContext& context) const {
  const bool star = config_.sparsemixer.version == "v2_star";
  const Tensor masked_TE = masked_logits(logits_TE, taken_TE, config_.sparsemixer.eps);
  const Tensor z_TE = star ? masked_TE / 2 : masked_TE;
  const Tensor p_TE = z_TE.softmax(/*dim=*/1);
  const Tensor best_T1 = select_top_k(z_TE.detach(), 1);
  if (context.mode != Mode::kTrain) return {best_T1, p_TE.gather(1, best_T1), {}};

  const int64_t T = logits_TE.size(0), E = logits_TE.size(1);
  const std::string place = std::to_string(place_.layer) + "/" + std::to_string(choice);
  const Tensor g_TE = gumbel_draws(T, E, "sparsemixer_choice/" + place, context);
  const Tensor drawn_T1 = select_top_k(z_TE.detach() + g_TE, 1);

  const double share_of_ones = star ? 5.0 / 8 : 1.0 / 4;
  const Tensor one_T1 = uniform_draws(T, 1, "sparsemixer_scale/" + place, context) < share_of_ones;
  const Tensor scale_T1 =
      at::where(one_T1.logical_or(drawn_T1 == best_T1), at::ones({}, p_TE.options()),
                at::full({}, 1.0 / 3, p_TE.options()));
  const Tensor weight_T1 = p_TE.gather(/*dim=*/1, drawn_T1);
  return {drawn_T1, star ? straight_through(weight_T1, 2 * weight_T1) : weight_T1, scale_T1};
}

}  // namespace switchyard
