#include "moe/routers/noise.h"

#include <ATen/ATen.h>

#include "moe/routers/draws.h"

namespace switchyard {

at::Tensor add_noise(const at::Tensor& logits_TE, double std, int64_t layer,
                     const TokenContext& context) {
  if (std == 0.0 || context.mode != Mode::kTrain) return logits_TE;
  return logits_TE + std * normal_draws(logits_TE.size(0), logits_TE.size(1),
                                        "router_noise/" + std::to_string(layer), context);
}

}  // namespace switchyard
