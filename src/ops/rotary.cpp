#include "ops/rotary.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ops/dispatch_dtype.h"

namespace switchyard {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

enum class Turn { kForward, kBack };

template <class scalar_t>
void rotate(const Tensor& x_BSNH, const RotaryTable& table, Turn turn, Tensor& y_BSNH) {
  using sum_t = accumulate_t<scalar_t>;
  const int64_t S = x_BSNH.size(1), N = x_BSNH.size(2), half = x_BSNH.size(3) / 2;
  const float *cos = table.cos_SH.data_ptr<float>(), *sin = table.sin_SH.data_ptr<float>();
  const sum_t sign = turn == Turn::kForward ? 1 : -1;
  const scalar_t* x = x_BSNH.data_ptr<scalar_t>();
  scalar_t* y = y_BSNH.data_ptr<scalar_t>();
  at::parallel_for(0, x_BSNH.size(0) * S, 16, [&](int64_t begin, int64_t end) {
    for (int64_t position = begin; position < end; ++position) {
      const float *c = cos + position % S * half, *s = sin + position % S * half;
      for (int64_t n = 0; n < N; ++n) {
        const scalar_t* from = x + (position * N + n) * 2 * half;
        scalar_t* to = y + (position * N + n) * 2 * half;
        for (int64_t i = 0; i < half; ++i) {
          const sum_t a = from[i], b = from[i + half], sine = sign * static_cast<sum_t>(s[i]);
          to[i] = static_cast<scalar_t>(a * static_cast<sum_t>(c[i]) - b * sine);
          to[i + half] = static_cast<scalar_t>(b * static_cast<sum_t>(c[i]) + a * sine);
        }
      }
    }
  });
}

Tensor rotated(const Tensor& x_BSNH, const RotaryTable& table, Turn turn) {
  const Tensor x = x_BSNH.contiguous();
  Tensor y = at::empty_like(x);
  dispatch_dtype(x.scalar_type(), [&](auto zero) { rotate<decltype(zero)>(x, table, turn, y); });
  return y;
}

class Rotary : public torch::autograd::Function<Rotary> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x_BSNH, const Tensor& cos_SH,
                        const Tensor& sin_SH) {
    ctx->save_for_backward({cos_SH, sin_SH});
    return rotated(x_BSNH, {cos_SH, sin_SH}, Turn::kForward);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    return {rotated(grads[0], {saved[0], saved[1]}, Turn::kBack), Tensor(), Tensor()};
  }
};

}  // namespace

RotaryTable rotary_table(int64_t first, int64_t count, int64_t head_dim, double theta) {
  const Tensor position_S = at::arange(first, first + count, at::kDouble);
  const Tensor exponent_H = at::arange(0, head_dim, 2, at::kDouble) / static_cast<double>(head_dim);
  const Tensor frequency_H = at::pow(theta, -exponent_H);
  const Tensor angle_SH = at::outer(position_S, frequency_H);
  return {angle_SH.cos().to(at::kFloat), angle_SH.sin().to(at::kFloat)};
}

Tensor apply_rotary(const Tensor& x_BSNH, const RotaryTable& table) {
  TORCH_CHECK(x_BSNH.dim() == 4 && x_BSNH.size(1) == table.cos_SH.size(0) &&
                  x_BSNH.size(3) == 2 * table.cos_SH.size(1),
              "apply_rotary: x_BSNH ", x_BSNH.sizes(), ", table ", table.cos_SH.sizes());
  return Rotary::apply(x_BSNH, table.cos_SH, table.sin_SH);
}

}  // namespace switchyard
