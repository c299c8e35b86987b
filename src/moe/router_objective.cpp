#include "moe/router_objective.h"

#include <ATen/ATen.h>

// T tokens.

namespace switchyard {

using at::Tensor;

Tensor router_objective(const std::vector<RouterRecord>& records, const Tensor& losses_T,
                        const Tensor& counted_T, double step_tokens) {
  Tensor total = at::zeros({}, losses_T.options());
  int64_t layers = 0;
  for (const RouterRecord& record : records) {
    if (!record.log_policy_T.defined()) continue;
    const Tensor advantage_T = (record.baseline.detach() - losses_T.detach()) * counted_T;
    total = total - (advantage_T * record.log_policy_T).sum();
    layers += 1;
  }
  return layers == 0 ? total : total / (step_tokens * static_cast<double>(layers));
}

}  // namespace switchyard
