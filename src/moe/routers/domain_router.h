#pragma once

#include "moe/router.h"

namespace switchyard {

/// DEMix, arXiv:2108.05036 section 3: one expert per domain, and every token of a sequence
/// goes to that of the sequence's domain, with weight 1. No weights.
///
/// A domain is the index of a source in data.path, at most moe.num_experts of them;
/// evaluation and generation must be told one. moe.top_k must be 1.
///
/// An expert whose domain a step has not seen gets a gradient of exactly zero. The paper
/// gives every domain its own ranks and never reduces expert gradients between domains;
/// here experts are placed as any other router's, which gives the same sums. The
/// mixture of experts weighted by the domains' posterior at inference (section 5.1) is not
/// part of the router. Causal: given the domain, a token looks at no other.
class DomainRouter final : public Router {
 public:
  /// Throws ConfigError when moe.top_k is not 1.
  DomainRouter(const RouterConfig& config, const RouterPlace& place);
  std::vector<RouterWeight> weights() const override { return {}; }
  /// Reads context.domains_T, which must be defined unless there are no tokens.
  Routing route(const at::Tensor& x_TD, const RouterTensors& tensors,
                const TokenContext& context) const override;

 private:
  RouterPlace place_;
};

/// context.domains_T (T), each checked to be in [0, limit); of no tokens, none.
at::Tensor known_domains(const TokenContext& context, int64_t limit);

}  // namespace switchyard
