#include "ops/uniform_rows.h"

#include <ATen/ATen.h>

#include <utility>

// Philox4x32-10 as base/random.cpp has it, on words of 32 bits in int64 tensors.

namespace switchyard {
namespace {

using at::Tensor;

constexpr int64_t kWord = 0xFFFFFFFF;

Tensor word(const Tensor& x) { return x.bitwise_and(kWord); }
Tensor above(const Tensor& x, int64_t bits) { return x.bitwise_right_shift(bits); }

/// The high and the low word of a * b, by halves of a, so that nothing overflows.
std::pair<Tensor, Tensor> wide_product(const Tensor& a, int64_t b) {
  const Tensor low = a.bitwise_and(0xFFFF) * b, high = above(a, 16) * b;
  return {above(high + above(low, 16), 16), word(word(high.bitwise_and(0xFFFF) * 0x10000) + low)};
}

}  // namespace

Tensor uniform_rows(const RandomStream& stream, const Tensor& ids_R, int64_t width) {
  const int64_t rows = ids_R.size(0), blocks = (width + 3) / 4;
  const Tensor block = at::arange(blocks, ids_R.options()).expand({rows, blocks}),
               id = ids_R.unsqueeze(1).expand({rows, blocks});
  Tensor a = word(block), b = above(block, 32), c = word(id), d = word(above(id, 32));
  uint32_t key0 = stream.key()[0], key1 = stream.key()[1];
  for (int round = 0; round < 10; ++round) {
    const auto [high0, low0] = wide_product(a, 0xD2511F53);
    const auto [high1, low1] = wide_product(c, 0xCD9E8D57);
    a = high1.bitwise_xor(b).bitwise_xor(static_cast<int64_t>(key0));
    b = low1;
    c = high0.bitwise_xor(d).bitwise_xor(static_cast<int64_t>(key1));
    d = low0;
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  const Tensor lanes = at::stack({a, b, c, d}, /*dim=*/2).view({rows, 4 * blocks});
  return above(lanes, 8).narrow(1, 0, width).to(at::kFloat) * 0x1.0p-24;
}

}  // namespace switchyard
