#include "moe/routers/token_draws.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "base/random.h"

namespace switchyard {

at::Tensor token_draws(const std::string& purpose, int64_t tokens, int64_t per_token,
                       const TokenContext& context) {
  const RandomStream stream(context.seed, purpose);
  const int64_t S = context.tokens_per_sequence;
  const int64_t* order = context.order_B.data_ptr<int64_t>();
  at::Tensor draws = at::empty({tokens, per_token}, at::kFloat);
  float* out = draws.data_ptr<float>();
  at::parallel_for(0, tokens, 64, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t i = 0; i < per_token; ++i) {
        out[t * per_token + i] = stream.uniform(t % S * per_token + i, order[t / S]);
      }
    }
  });
  return draws;
}

}  // namespace switchyard
