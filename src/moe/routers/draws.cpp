#include "moe/routers/draws.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "base/random.h"
#include "ops/host_copy.h"

namespace switchyard {
namespace {

template <typename Draw>
at::Tensor draw_each(int64_t tokens, int64_t per_token, const TokenContext& context,
                     const Draw& draw) {
  at::Tensor out_TN = at::empty({tokens, per_token}, at::kFloat);
  float* out = out_TN.data_ptr<float>();
  const int64_t S = context.tokens_per_sequence;
  const int64_t* order = context.order_B.data_ptr<int64_t>();
  at::parallel_for(0, tokens, 64, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t n = 0; n < per_token; ++n) {
        out[t * per_token + n] = draw(t % S * per_token + n, order[t / S]);
      }
    }
  });
  return copy_to_device(out_TN, context.device);
}

}  // namespace

at::Tensor uniform_draws(int64_t tokens, int64_t per_token, const std::string& purpose,
                         const TokenContext& context) {
  const RandomStream stream(context.seed, purpose);
  return draw_each(tokens, per_token, context, [&](uint64_t index, uint64_t sequence) {
    return stream.uniform(index, sequence);
  });
}

at::Tensor normal_draws(int64_t tokens, int64_t per_token, const std::string& purpose,
                        const TokenContext& context) {
  const RandomStream stream(context.seed, purpose);
  return draw_each(tokens, per_token, context, [&](uint64_t index, uint64_t sequence) {
    return stream.normal(index, sequence);
  });
}

at::Tensor gumbel_draws(int64_t tokens, int64_t per_token, const std::string& purpose,
                        const TokenContext& context) {
  const at::Tensor u_TN = uniform_draws(tokens, per_token, purpose, context).clamp_min(1e-10F);
  return -(-u_TN.log()).log();
}

}  // namespace switchyard
