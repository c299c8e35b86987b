#include "moe/routers/jitter.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "base/random.h"
#include "ops/host_copy.h"

namespace switchyard {

at::Tensor jitter(const at::Tensor& x_TD, double eps, int64_t layer, const TokenContext& context) {
  if (eps == 0.0 || context.mode != Mode::kTrain) return x_TD;
  const int64_t D = x_TD.size(1), S = context.tokens_per_sequence;
  const RandomStream stream(context.seed, "router_jitter/" + std::to_string(layer));
  const auto width = static_cast<float>(eps);
  at::Tensor factor_TD = at::empty(x_TD.sizes(), at::kFloat);
  float* factor = factor_TD.data_ptr<float>();
  const int64_t* order = context.order_B.data_ptr<int64_t>();
  at::parallel_for(0, x_TD.size(0), 64, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t d = 0; d < D; ++d) {
        factor[t * D + d] = 1 - width + 2 * width * stream.uniform(t % S * D + d, order[t / S]);
      }
    }
  });
  return x_TD * copy_to_device(factor_TD, x_TD.device());
}

}  // namespace switchyard
