#include "ops/dropout.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "base/random.h"
#include "ops/host_copy.h"
#include "ops/uniform_rows.h"

namespace switchyard {

namespace {

/// Masks of (rows, width) elements: row r draws from sub-stream ids[r], and holds
/// 1 / (1 - rate) where kept and 0 where not; 1 throughout for a negative id.
at::Tensor mask_on_host(int64_t rows, int64_t width, double rate, const RandomStream& stream,
                        const at::Tensor& ids_R) {
  const auto threshold = static_cast<float>(rate), scale = static_cast<float>(1 / (1 - rate));
  at::Tensor mask = at::empty({rows, width}, at::kFloat);
  float* out = mask.data_ptr<float>();
  const int64_t* ids = ids_R.data_ptr<int64_t>();
  at::parallel_for(0, rows * width, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t id = ids[i / width];
      if (id < 0) {
        out[i] = 1.0F;
      } else {
        out[i] = stream.uniform(i % width, id) >= threshold ? scale : 0.0F;
      }
    }
  });
  return mask;
}

/// Where x is, the ids as well.
at::Tensor make_mask(int64_t rows, int64_t width, double rate, const RandomStream& stream,
                     const at::Tensor& ids_R, c10::Device device) {
  if (device.is_cpu()) return mask_on_host(rows, width, rate, stream, ids_R);
  const at::Tensor ids_R1 = copy_to_device(ids_R, device).view({rows, 1});
  const at::Tensor uniform = uniform_rows(stream, ids_R1.squeeze(1).clamp_min(0), width);
  const auto threshold = static_cast<float>(rate), scale = static_cast<float>(1 / (1 - rate));
  const at::Tensor kept = (uniform >= threshold).to(at::kFloat) * scale;
  return kept.masked_fill_(ids_R1 < 0, 1);
}

}  // namespace

at::Tensor counter_dropout(const at::Tensor& x_BSD, double rate, uint64_t seed,
                           const std::string& purpose, const at::Tensor& order_B) {
  TORCH_CHECK(x_BSD.dim() == 3 && order_B.numel() == x_BSD.size(0), "counter_dropout: x_BSD ",
              x_BSD.sizes());
  const at::Tensor mask = make_mask(x_BSD.size(0), x_BSD.size(1) * x_BSD.size(2), rate,
                                    RandomStream(seed, purpose), order_B, x_BSD.device());
  return x_BSD * mask.view(x_BSD.sizes()).to(x_BSD.dtype());
}

at::Tensor row_dropout(const at::Tensor& x_RF, double rate, uint64_t seed,
                       const std::string& purpose, const at::Tensor& ids_R) {
  TORCH_CHECK(x_RF.dim() == 2 && ids_R.numel() == x_RF.size(0), "row_dropout: x_RF ", x_RF.sizes(),
              ", ids_R ", ids_R.sizes());
  const at::Tensor mask_RF = make_mask(x_RF.size(0), x_RF.size(1), rate,
                                       RandomStream(seed, purpose), ids_R, x_RF.device());
  return x_RF * mask_RF.to(x_RF.dtype());
}

}  // namespace switchyard
