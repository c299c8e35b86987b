#include "moe/routers/domain_router.h"

#include <ATen/ATen.h>

#include "moe/routers/fixed_choice.h"
#include "moe/routers/require_top_1.h"

// T tokens.

namespace switchyard {

using at::Tensor;

DomainRouter::DomainRouter(const RouterConfig& config, const RouterPlace& place) : place_(place) {
  require_top_1(config.type, place.top_k);
}

Routing DomainRouter::route(const Tensor& /*x_TD*/, const RouterTensors& /*tensors*/,
                            const TokenContext& context) const {
  const Tensor domains_T = known_domains(context, place_.num_experts);
  return fixed_choice(domains_T.unsqueeze(1).contiguous(), place_.num_experts);
}

Tensor known_domains(const TokenContext& context, int64_t limit) {
  const int64_t T = context.tokens_T.size(0);
  if (T == 0) return context.tokens_T;
  TORCH_CHECK(context.domains_T.defined() && context.domains_T.size(0) == T,
              "the router chooses by domain, and these tokens have none");
  const Tensor range = at::stack({context.domains_T.min(), context.domains_T.max()}).cpu();
  const auto low = range[0].item<int64_t>(), high = range[1].item<int64_t>();
  TORCH_CHECK(low >= 0 && high < limit, "domains from ", low, " to ", high,
              " and a router that knows ", limit);
  return context.domains_T;
}

}  // namespace switchyard
