#include "moe/moe_layer.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "moe/drop_tokens.h"
#include "ops/dropout.h"
#include "ops/host_copy.h"
#include "ops/region.h"

// T tokens on this rank, D model width, E experts, K experts per token, G routing
// groups, R token copies that this rank's experts received.

namespace switchyard {
namespace {

using at::Tensor;

/// `count_choices` on any device, without the host. Sums of ones: the same in any order.
RoutingCounts composed_counts(const Routing& routing, const TokenContext& context, int64_t G,
                              int64_t E) {
  const int64_t T = routing.experts_TK.size(0);
  const at::TensorOptions sums = routing.experts_TK.options().dtype(at::kDouble);
  const Tensor chosen_TK = context.valid_T.defined()
                               ? routing.kept_TK.logical_and(context.valid_T.unsqueeze(1))
                               : routing.kept_TK;
  const Tensor first_TK = chosen_TK.logical_and(chosen_TK.cumsum(/*dim=*/1) == 1);
  const Tensor group_T1 = at::arange(T, routing.experts_TK.options())
                              .div(std::max<int64_t>(T / G, 1), /*rounding_mode=*/"floor")
                              .unsqueeze(1);
  const Tensor cell = (group_T1 * E + routing.experts_TK).flatten();
  const auto histogram = [&](const Tensor& which_TK) {
    return at::zeros({G * E}, sums)
        .scatter_add_(0, cell, which_TK.flatten().to(at::kDouble))
        .view({G, E});
  };
  const Tensor tokens_G = context.valid_T.defined()
                              ? context.valid_T.view({G, -1}).sum(/*dim=*/1).to(at::kDouble)
                              : at::full({G}, T / G, sums);
  return {histogram(chosen_TK), histogram(first_TK), tokens_G};
}

/// Counts of the chosen pairs per expert and routing group, before capacity. The
/// first choice of a token is the first that its router kept.
RoutingCounts count_choices(const Routing& routing, const TokenContext& context,
                            int64_t num_experts) {
  const int64_t T = routing.experts_TK.size(0), K = routing.experts_TK.size(1), E = num_experts;
  const int64_t group = context.tokens_per_group, G = T == 0 ? 1 : T / group;
  TORCH_CHECK(T == 0 || T % group == 0, "routing groups of ", group, " tokens do not fit ", T,
              " tokens");
  if (!routing.experts_TK.is_cpu()) return composed_counts(routing, context, G, E);
  RoutingCounts counts{at::zeros({G, E}, at::kDouble), at::zeros({G, E}, at::kDouble),
                       at::zeros({G}, at::kDouble)};
  const int64_t* experts = routing.experts_TK.data_ptr<int64_t>();
  const bool* chosen = routing.kept_TK.data_ptr<bool>();
  const bool* valid = context.valid_T.defined() ? context.valid_T.data_ptr<bool>() : nullptr;
  double *all = counts.all_GE.data_ptr<double>(), *first = counts.first_GE.data_ptr<double>(),
         *tokens = counts.tokens_G.data_ptr<double>();
  for (int64_t t = 0; t < T; ++t) {
    if (valid != nullptr && !valid[t]) continue;
    const int64_t g = t / group;
    tokens[g] += 1;
    bool is_first = true;
    for (int64_t k = 0; k < K; ++k) {
      if (!chosen[t * K + k]) continue;
      const int64_t e = experts[t * K + k];
      all[g * E + e] += 1;
      if (is_first) first[g * E + e] += 1;
      is_first = false;
    }
  }
  return counts;
}

/// A number for each (token, choice) that no other pair of the run has: (T, K) int64.
Tensor pair_ids(int64_t top_k, const TokenContext& context) {
  const int64_t per_sequence = context.tokens_per_sequence * top_k;
  const Tensor order_B = copy_to_device(context.order_B, context.device);
  const Tensor within = at::arange(per_sequence, order_B.options());
  return (order_B.unsqueeze(1) * per_sequence + within.unsqueeze(0)).view({-1, top_k});
}

/// `routing` after capacity, `counts` before.
RouterRecord make_record(const Routing& routing, const RoutingCounts& counts,
                         const TokenContext& context) {
  RouterRecord record;
  record.logits_TE = routing.logits_TE;
  record.valid_T = context.valid_T;
  record.domains_T = context.domains_T;
  record.tokens_per_sequence = context.tokens_per_sequence;
  record.probs_TE = context.valid_T.defined() ? routing.probs_TE * context.valid_T.unsqueeze(1)
                                              : routing.probs_TE;
  record.counts = counts;
  record.experts_TK = routing.experts_TK;
  record.kept_TK = routing.kept_TK;
  record.weights_TK = kept_weights(routing);
  record.routed_pairs = counts.all_GE.sum();
  record.dropped_pairs = record.routed_pairs - routing.kept_TK.sum();
  record.importance_TE = routing.importance_TE;
  record.load_TE = routing.load_TE;
  record.log_policy_T = routing.log_policy_T;
  record.baseline = routing.baseline;
  record.regularizer_T = routing.regularizer_T;
  record.regularizer_coef = routing.regularizer_coef;
  record.memory_TP = routing.memory_TP;
  return record;
}

/// Skywork-MoE (arXiv:2406.06563 section 4.2): alpha <- beta alpha + (1 - beta) min(rate
/// dropped, max), for the entries that are adaptive.
void follow_drops(const std::vector<BalanceConfig>& balance, double dropped, const Tensor& coef_N) {
  const Tensor host_N = coef_N.cpu();
  float* coef = host_N.data_ptr<float>();
  for (size_t n = 0; n < balance.size(); ++n) {
    const AdaptiveConfig& adaptive = balance[n].adaptive;
    if (adaptive.rate == 0.0) continue;
    const double target = std::min(adaptive.rate * dropped, adaptive.max);
    coef[n] = static_cast<float>(adaptive.beta * coef[n] + (1 - adaptive.beta) * target);
  }
  if (!coef_N.is_cpu()) coef_N.copy_(host_N);
}

bool is_adaptive(const MoeConfig& moe) {
  return std::ranges::any_of(moe.balance,
                             [](const BalanceConfig& entry) { return entry.adaptive.rate > 0; });
}

}  // namespace

MoeLayer::MoeLayer(ParameterStore& store, const std::string& prefix, const ModelConfig& model,
                   const MoeConfig& moe, int64_t layer, const Mesh& mesh, Recompute recompute,
                   c10::Device device)
    : config_(moe),
      recompute_(recompute),
      prefix_(prefix),
      layer_(layer),
      router_(make_router(moe.router, router_place(model, moe, layer))),
      dispatcher_(*mesh.expert, moe.num_experts, mesh.overlap_chunks),
      experts_(store, prefix, mesh.expert_rank() * (moe.num_experts / mesh.expert_size()),
               moe.num_experts / mesh.expert_size(), model.hidden_size,
               moe.expert_intermediate_size, parse_ffn(model.ffn),
               {model.init_std, parse_expert_start(moe.expert_init)}, recompute) {
  for (const RouterWeight& weight : router_->weights()) {
    router_tensors_.weights.push_back(
        weight.shared ? store.add_shared(ParameterKind::kDense,
                                         {"model.router." + weight.name, weight.shape, weight.init})
                      : store.add(ParameterKind::kDense,
                                  {prefix + "." + weight.name, weight.shape, weight.init}));
  }
  for (auto& [name, tensor] : router_->initial_state())
    router_tensors_.state.push_back(tensor.to(device));
  if (is_adaptive(moe)) {
    std::vector<float> coefs;
    for (const BalanceConfig& entry : moe.balance) coefs.push_back(static_cast<float>(entry.coef));
    balance_coef_N_ = at::tensor(coefs, at::kFloat).to(device);
  }
  if (moe.shared_experts.num == 0) return;
  shared_.emplace(store, prefix + ".shared_expert", model.hidden_size,
                  moe.shared_experts.num * moe.shared_experts.intermediate_size,
                  parse_ffn(model.ffn), model.init_std, recompute);
  if (moe.shared_experts.gated) {
    shared_gate_1D_ = store.add(ParameterKind::kDense, {prefix + ".shared_expert_gate.weight",
                                                        {1, model.hidden_size},
                                                        {Init::Type::kNormal, model.init_std, {}}});
  }
}

MoeOutput MoeLayer::forward(const Tensor& x_TD, const TokenContext& context) const {
  Region part("router");
  Routing routing = router_->route(x_TD, router_tensors_, context);
  if (context.valid_T.defined()) routing.kept_TK.logical_and_(context.valid_T.unsqueeze(1));
  const RoutingCounts counts = count_choices(routing, context, config_.num_experts);
  const Tensor chosen_TK = at::where(routing.kept_TK, routing.experts_TK, -1);
  drop_tokens(routing, config_, layer_, context);
  RouterRecord record = make_record(routing, counts, context);
  record.chosen_TK = chosen_TK;
  record.balance_coef_N = balance_coef_N_;
  part.next("dispatch");
  const Dispatched sent = dispatcher_.order(routing.experts_TK, routing.kept_TK);
  const Tensor ids_R = dropout_ids(sent, context);
  // Routing is a value by now: whoever runs this again finds it as it was.
  const Piece experts = [this, sent, ids_R, seed = context.seed](const std::vector<Tensor>& in) {
    return std::vector<Tensor>{output(in[0], in[1], in[2], in[3], sent, ids_R, seed)};
  };
  const std::vector<Tensor> inputs = {x_TD, record.weights_TK, routing.value_scale_TK,
                                      routing.shared_T};
  const std::vector<Tensor> y =
      recompute_ == Recompute::kLayer ? recomputed(experts, inputs) : experts(inputs);
  return {y[0], std::move(record)};
}

Tensor MoeLayer::output(const Tensor& x_TD, const Tensor& weights_TK, const Tensor& value_scale_TK,
                        const Tensor& shared_T, const Dispatched& sent, const Tensor& ids_R,
                        uint64_t seed) const {
  const ExpertRows experts = [&](const Tensor& rows_RD, const std::vector<int64_t>& rows_L,
                                 int64_t first_row) {
    const Tensor ids = ids_R.defined() ? ids_R.narrow(0, first_row, rows_RD.size(0)) : Tensor();
    return expert_output(rows_RD, rows_L, ids, seed);
  };
  if (!shared_) return dispatcher_.apply(experts, x_TD, sent, weights_TK, value_scale_TK);
  Tensor shared_TD;
  const auto shared = [&] {
    const Region part("shared_experts");
    shared_TD = shared_output(x_TD, shared_T);
  };
  const Tensor y_TD =
      dispatcher_.apply(experts, x_TD, sent, weights_TK, value_scale_TK, /*beside=*/shared);
  return y_TD + shared_TD;
}

NamedState MoeLayer::state() const {
  NamedState all;
  const NamedState named = router_->initial_state();
  for (size_t i = 0; i < named.size(); ++i) {
    all.emplace_back(prefix_ + "." + named[i].first, router_tensors_.state[i]);
  }
  if (balance_coef_N_.defined()) all.emplace_back(prefix_ + ".balance_coef", balance_coef_N_);
  return all;
}

void MoeLayer::update_state(const RouterStep& step) {
  router_->update_state(router_tensors_.state, step);
  if (balance_coef_N_.defined()) follow_drops(config_.balance, step.dropped, balance_coef_N_);
}

void MoeLayer::use_token_counts(const Tensor& counts_V) {
  router_->use_token_counts(counts_V, router_tensors_.state);
}

Tensor MoeLayer::dropout_ids(const Dispatched& sent, const TokenContext& context) const {
  if (config_.expert_dropout == 0.0 || context.mode != Mode::kTrain) return {};
  return dispatcher_.send_ids(pair_ids(sent.map.slot_TK.size(1), context), sent);
}

Tensor MoeLayer::expert_output(const Tensor& rows_RD, const std::vector<int64_t>& rows_L,
                               const Tensor& ids_R, uint64_t seed) const {
  if (!ids_R.defined()) return experts_.forward(rows_RD, rows_L);
  const auto drop = [ids_R, seed, rate = config_.expert_dropout,
                     purpose = "expert_dropout/" + std::to_string(layer_)](const Tensor& h_RF) {
    return row_dropout(h_RF, rate, seed, purpose, ids_R);
  };
  return experts_.forward(rows_RD, rows_L, drop);
}

Tensor MoeLayer::shared_output(const Tensor& x_TD, const Tensor& scale_T) const {
  Tensor y_TD = shared_->forward(x_TD);
  if (shared_gate_1D_.defined()) y_TD = at::linear(x_TD, shared_gate_1D_).sigmoid() * y_TD;
  return scale_T.defined() ? (scale_T.unsqueeze(1) * y_TD).to(y_TD.scalar_type()) : y_TD;
}

}  // namespace switchyard
