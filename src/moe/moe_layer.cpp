#include "moe/moe_layer.h"

#include <ATen/ATen.h>

#include "ops/dropout.h"

// T tokens on this rank, D model width, E experts, K experts per token, G routing
// groups, R token copies that this rank's experts received.

namespace switchyard {
namespace {

using at::Tensor;

/// Counts of pairs per expert and routing group, before drops, without padding.
RoutingCounts count_choices(const Routing& routing, const TokenContext& context,
                            int64_t num_experts) {
  const int64_t T = routing.experts_TK.size(0), K = routing.experts_TK.size(1), E = num_experts;
  const int64_t group = context.tokens_per_group, G = T == 0 ? 1 : T / group;
  TORCH_CHECK(T == 0 || T % group == 0, "routing groups of ", group, " tokens do not fit ", T,
              " tokens");
  RoutingCounts counts{at::zeros({G, E}, at::kDouble), at::zeros({G, E}, at::kDouble),
                       at::zeros({G}, at::kDouble)};
  const int64_t* experts = routing.experts_TK.data_ptr<int64_t>();
  const bool* valid = context.valid_T.defined() ? context.valid_T.data_ptr<bool>() : nullptr;
  double *all = counts.all_GE.data_ptr<double>(), *first = counts.first_GE.data_ptr<double>(),
         *tokens = counts.tokens_G.data_ptr<double>();
  for (int64_t t = 0; t < T; ++t) {
    if (valid != nullptr && !valid[t]) continue;
    const int64_t g = t / group;
    tokens[g] += 1;
    first[g * E + experts[t * K]] += 1;
    for (int64_t k = 0; k < K; ++k) all[g * E + experts[t * K + k]] += 1;
  }
  return counts;
}

/// A number for each (token, choice) that no other pair of the run has: (T, K) int64.
Tensor pair_ids(int64_t top_k, const TokenContext& context) {
  const int64_t per_sequence = context.tokens_per_sequence * top_k;
  const Tensor within = at::arange(per_sequence, at::kLong);
  return (context.order_B.unsqueeze(1) * per_sequence + within.unsqueeze(0)).view({-1, top_k});
}

RouterRecord make_record(const Routing& routing, const TokenContext& context, int64_t num_experts) {
  RouterRecord record;
  record.logits_TE = routing.logits_TE;
  record.valid_T = context.valid_T;
  record.probs_TE = context.valid_T.defined() ? routing.probs_TE * context.valid_T.unsqueeze(1)
                                              : routing.probs_TE;
  record.counts = count_choices(routing, context, num_experts);
  record.experts_TK = routing.experts_TK;
  record.kept_TK = routing.kept_TK;
  record.routed_pairs = static_cast<int64_t>(record.counts.all_GE.sum().item<double>());
  record.dropped_pairs = record.routed_pairs - routing.kept_TK.sum().item<int64_t>();
  return record;
}

}  // namespace

MoeLayer::MoeLayer(ParameterStore& store, const std::string& prefix, const ModelConfig& model,
                   const MoeConfig& moe, int64_t layer, const Mesh& mesh)
    : config_(moe),
      layer_(layer),
      router_(make_router(moe, layer)),
      dispatcher_(*mesh.expert, moe.num_experts),
      experts_(store, prefix, mesh.expert_rank() * (moe.num_experts / mesh.expert_size()),
               moe.num_experts / mesh.expert_size(), model.hidden_size,
               moe.expert_intermediate_size, parse_ffn(model.ffn), model.init_std) {
  const Init init{Init::Type::kNormal, model.init_std};
  router_weights_.gate_ED = store.add(
      ParameterKind::kDense, {prefix + ".gate.weight", {moe.num_experts, model.hidden_size}, init});
  if (moe.router.selection_bias) router_weights_.bias_E = at::zeros({moe.num_experts}, at::kFloat);
  if (moe.shared_experts.num == 0) return;
  shared_.emplace(store, prefix + ".shared_expert", model.hidden_size,
                  moe.shared_experts.num * moe.shared_experts.intermediate_size,
                  parse_ffn(model.ffn), model.init_std);
  if (moe.shared_experts.gated) {
    shared_gate_1D_ =
        store.add(ParameterKind::kDense,
                  {prefix + ".shared_expert_gate.weight", {1, model.hidden_size}, init});
  }
}

MoeOutput MoeLayer::forward(const Tensor& x_TD, const TokenContext& context) const {
  Routing routing = router_->route(x_TD, router_weights_, context);
  drop(routing, context);
  const Dispatched sent =
      dispatcher_.dispatch(x_TD, routing.experts_TK, routing.kept_TK);  // all-to-all, there
  const Tensor y_RD = expert_output(sent, context);
  RouterRecord record = make_record(routing, context, config_.num_experts);
  record.weights_TK = kept_weights(routing);
  Tensor y_TD = dispatcher_.combine(y_RD, sent, record.weights_TK);  // all-to-all, back
  if (shared_) y_TD = y_TD + shared_output(x_TD);
  return {y_TD, std::move(record)};
}

void MoeLayer::drop(Routing& routing, const TokenContext& context) const {
  if (context.valid_T.defined()) routing.kept_TK.logical_and_(context.valid_T.unsqueeze(1));
  const auto& factor =
      context.mode == Mode::kTrain ? config_.capacity.factor : config_.capacity.eval_factor;
  if (!factor) return;
  TokenContext scope = context;
  if (config_.capacity.scope == "rank")
    scope.tokens_per_group = std::max<int64_t>(routing.experts_TK.size(0), 1);
  const int64_t slots = expert_capacity(config_.capacity, *factor, scope.tokens_per_group,
                                        config_.num_experts, routing.experts_TK.size(1));
  const Priority priority = config_.router.type == "gshard"
                                ? Priority::kChoice
                                : parse_priority(config_.capacity.priority);
  const Tensor probs_TK = routing.probs_TE.detach().gather(/*dim=*/1, routing.experts_TK);
  drop_over_capacity(routing.experts_TK, probs_TK, config_.num_experts, slots, priority, layer_,
                     scope, routing.kept_TK);
}

Tensor MoeLayer::expert_output(const Dispatched& sent, const TokenContext& context) const {
  const double rate = config_.expert_dropout;
  if (rate == 0.0 || context.mode != Mode::kTrain)
    return experts_.forward(sent.rows_RD, sent.rows_L);
  const Tensor ids_R = dispatcher_.send_ids(pair_ids(sent.map.slot_TK.size(1), context), sent);
  return experts_.forward(sent.rows_RD, sent.rows_L, [&](const Tensor& hidden_RF) {
    return row_dropout(hidden_RF, rate, context.seed, "expert_dropout/" + std::to_string(layer_),
                       ids_R);
  });
}

Tensor MoeLayer::shared_output(const Tensor& x_TD) const {
  const Tensor y_TD = shared_->forward(x_TD);
  return shared_gate_1D_.defined() ? at::linear(x_TD, shared_gate_1D_).sigmoid() * y_TD : y_TD;
}

void update_selection_bias(Tensor& bias_E, const Tensor& counts_E, double rate) {
  bias_E.add_((counts_E.mean() - counts_E).sign().to(at::kFloat), rate);
}

}  // namespace switchyard
