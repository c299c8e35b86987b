#include "moe/routers/exploration.h"

#include <ATen/ATen.h>

#include "moe/routers/draws.h"
#include "ops/dropout.h"

namespace switchyard {

at::Tensor explore_input(const at::Tensor& x_TD, const RouterConfig& config, int64_t layer,
                         const TokenContext& context) {
  if (config.exploration != "input_dropout" || context.mode != Mode::kTrain) return x_TD;
  const at::Tensor x_BSD =
      x_TD.view({context.order_B.size(0), context.tokens_per_sequence, x_TD.size(1)});
  return counter_dropout(x_BSD, config.input_dropout, context.seed,
                         "router_input_dropout/" + std::to_string(layer), context.order_B)
      .view_as(x_TD);
}

at::Tensor explore_choice(const at::Tensor& probs_TE, const RouterConfig& config, int64_t layer,
                          const TokenContext& context) {
  if (config.exploration != "sample" || context.mode != Mode::kTrain) return probs_TE;
  return probs_TE.log() + gumbel_draws(probs_TE.size(0), probs_TE.size(1),
                                       "router_sample/" + std::to_string(layer), context);
}

}  // namespace switchyard
