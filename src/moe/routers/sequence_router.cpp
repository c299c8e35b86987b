#include "moe/routers/sequence_router.h"

#include <ATen/ATen.h>

#include "moe/routers/domain_router.h"
#include "moe/routers/require_top_1.h"
#include "moe/select_top_k.h"

// T tokens, E experts, K = 1 expert per token, C clusters, M width of their embedding.

namespace switchyard {

using at::Tensor;

SequenceRouter::SequenceRouter(const RouterConfig& config, const RouterPlace& place)
    : config_(config.sequence), place_(place) {
  require_top_1(config.type, place.top_k);
}

std::vector<RouterWeight> SequenceRouter::weights() const {
  return {{"gate.embedding.weight",
           {config_.clusters, config_.embedding_size},
           {Init::Type::kNormal, 1.0, {}}},
          {"gate.weight",
           {place_.num_experts, config_.embedding_size},
           {Init::Type::kNormal, place_.init_std, {}}}};
}

Routing SequenceRouter::route(const Tensor& /*x_TD*/, const RouterTensors& tensors,
                              const TokenContext& context) const {
  const Tensor domains_T = known_domains(context, config_.clusters);
  const Tensor logits_CE =
      gate_logits(tensors.weights[0], tensors.weights[1]) / config_.temperature;
  Routing routing;
  routing.logits_TE = logits_CE.index_select(/*dim=*/0, domains_T);
  routing.probs_TE = routing.logits_TE.softmax(/*dim=*/1);
  routing.experts_TK = select_top_k(routing.probs_TE.detach(), 1);
  routing.weights_TK = routing.probs_TE.gather(/*dim=*/1, routing.experts_TK);
  routing.kept_TK = all_kept(routing.experts_TK);
  routing.shared_T = 1 - routing.weights_TK.squeeze(1);
  return routing;
}

}  // namespace switchyard
