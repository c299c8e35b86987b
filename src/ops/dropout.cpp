#include "ops/dropout.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "base/random.h"

namespace switchyard {

at::Tensor counter_dropout(const at::Tensor& x_BSD, double rate, uint64_t seed,
                           const std::string& purpose, const at::Tensor& order_B) {
  TORCH_CHECK(x_BSD.dim() == 3 && order_B.numel() == x_BSD.size(0), "counter_dropout: x_BSD ",
              x_BSD.sizes());
  const int64_t per_sequence = x_BSD.size(1) * x_BSD.size(2);
  const RandomStream stream(seed, purpose);
  const auto threshold = static_cast<float>(rate), scale = static_cast<float>(1 / (1 - rate));
  at::Tensor mask_BSD = at::empty(x_BSD.sizes(), at::kFloat);
  float* mask = mask_BSD.data_ptr<float>();
  const int64_t* order = order_B.data_ptr<int64_t>();
  at::parallel_for(0, x_BSD.numel(), 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      mask[i] =
          stream.uniform(i % per_sequence, order[i / per_sequence]) >= threshold ? scale : 0.0F;
    }
  });
  return x_BSD * mask_BSD.to(x_BSD.dtype());
}

}  // namespace switchyard
