#include "ops/permute.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstring>

#include "ops/composed.h"
#include "ops/cuda/kernels.h"
#include "ops/dispatch_dtype.h"
#include "ops/vector_math.h"

namespace switchyard {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kRowsPerTask = 64;

/// out[i] = x[index[i] / divisor], row by row; zero where the index is -1.
Tensor copy_rows(const Tensor& x, const Tensor& index, int64_t divisor) {
  if (cuda::has_kernels(x)) return cuda::copy_rows(x, index, divisor);
  if (!x.is_cpu()) return composed::copy_rows(x, index, divisor);
  Tensor out = at::empty({index.size(0), x.size(1)}, x.options());
  const int64_t row_bytes = x.size(1) * x.element_size();
  const auto* from = static_cast<const char*>(x.data_ptr());
  auto* to = static_cast<char*>(out.data_ptr());
  const int64_t* rows = index.data_ptr<int64_t>();
  at::parallel_for(0, out.size(0), kRowsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (rows[i] < 0) {
        std::memset(to + i * row_bytes, 0, row_bytes);
      } else {
        std::memcpy(to + i * row_bytes, from + rows[i] / divisor * row_bytes, row_bytes);
      }
    }
  });
  return out;
}

/// out[t] = sum over k of scale(t, k) * y[slot[t, k]], in ascending k.
template <class scalar_t, class Scale>
void sum_slots(const Tensor& y_SD, const Tensor& slot_TK, const Scale& scale, Tensor& out_TD) {
  using sum_t = accumulate_t<scalar_t>;
  const int64_t D = y_SD.size(1), K = slot_TK.size(1);
  const scalar_t* y = y_SD.data_ptr<scalar_t>();
  const int64_t* slot = slot_TK.data_ptr<int64_t>();
  scalar_t* out = out_TD.data_ptr<scalar_t>();
  at::parallel_for(0, slot_TK.size(0), kRowsPerTask, [&](int64_t begin, int64_t end) {
    std::vector<sum_t> sum(D);
    sum_t* total = sum.data();
    for (int64_t t = begin; t < end; ++t) {
      std::fill(sum.begin(), sum.end(), sum_t{0});
      for (int64_t k = 0; k < K; ++k) {
        const int64_t s = slot[t * K + k];
        if (s < 0) continue;
        const sum_t factor = scale(t * K + k);
        const scalar_t* row = y + s * D;
#pragma omp simd
        for (int64_t d = 0; d < D; ++d) total[d] += factor * static_cast<sum_t>(row[d]);
      }
#pragma omp simd
      for (int64_t d = 0; d < D; ++d) store_rounded(out + t * D + d, total[d]);
    }
  });
}

/// The same with factors_TK for scale, or with 1 where they are undefined.
Tensor sum_slots(const Tensor& y_SD, const Tensor& slot_TK, const Tensor& factors_TK) {
  if (cuda::has_kernels(y_SD)) return cuda::sum_slots(y_SD, slot_TK, factors_TK);
  if (!y_SD.is_cpu()) return composed::sum_slots(y_SD, slot_TK, factors_TK);
  Tensor out_TD = at::empty({slot_TK.size(0), y_SD.size(1)}, y_SD.options());
  dispatch_dtype(y_SD.scalar_type(), [&](auto zero) {
    using scalar_t = decltype(zero);
    using sum_t = accumulate_t<scalar_t>;
    if (!factors_TK.defined()) {
      sum_slots<scalar_t>(
          y_SD, slot_TK, [](int64_t) { return sum_t{1}; }, out_TD);
      return;
    }
    const auto* factors = factors_TK.data_ptr<sum_t>();
    sum_slots<scalar_t>(
        y_SD, slot_TK, [factors](int64_t pair) { return factors[pair]; }, out_TD);
  });
  return out_TD;
}

class GatherTokens : public torch::autograd::Function<GatherTokens> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x_TD, const Tensor& pair_S,
                        const Tensor& slot_TK) {
    ctx->save_for_backward({slot_TK});
    return copy_rows(x_TD, pair_S, /*divisor=*/slot_TK.size(1));
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const Tensor slot_TK = ctx->get_saved_variables()[0];
    return {sum_slots(grads[0].contiguous(), slot_TK, /*factors_TK=*/{}), Tensor(), Tensor()};
  }
};

class CombineTokens : public torch::autograd::Function<CombineTokens> {
 public:
  /// factors_TK: what the value is made with; the gradient knows weights_TK alone.
  static Tensor forward(AutogradContext* ctx, const Tensor& y_SD, const Tensor& weights_TK,
                        const Tensor& factors_TK, const Tensor& pair_S, const Tensor& slot_TK) {
    ctx->save_for_backward({y_SD, weights_TK, pair_S, slot_TK});
    return sum_slots(y_SD, slot_TK, factors_TK);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &y_SD = saved[0], &weights_TK = saved[1], &pair_S = saved[2];
    const auto [dy_SD, dweights_TK] =
        gradients(y_SD, weights_TK, {pair_S, saved[3]}, grads[0].contiguous());
    return {dy_SD, dweights_TK, Tensor(), Tensor(), Tensor()};
  }

 private:
  static CombineGradients gradients(const Tensor& y_SD, const Tensor& weights_TK, const RowMap& map,
                                    const Tensor& dout_TD) {
    if (cuda::has_kernels(y_SD)) return cuda::combine_gradients(y_SD, weights_TK, map, dout_TD);
    if (!y_SD.is_cpu()) return composed::combine_gradients(y_SD, weights_TK, map, dout_TD);
    CombineGradients result{at::empty_like(y_SD), at::zeros_like(weights_TK)};
    dispatch_dtype(y_SD.scalar_type(), [&](auto zero) {
      backward_rows<decltype(zero)>(y_SD, weights_TK, map.pair_S, dout_TD, result.dy_SD,
                                    result.dweights_TK);
    });
    return result;
  }

  /// dy[s] = w * dout[t] and dw[t, k] = <dout[t], y[s]> for the pair in row s.
  template <class scalar_t>
  static void backward_rows(const Tensor& y_SD, const Tensor& weights_TK, const Tensor& pair_S,
                            const Tensor& dout_TD, Tensor& dy_SD, Tensor& dweights_TK) {
    using sum_t = accumulate_t<scalar_t>;
    const int64_t D = y_SD.size(1), K = weights_TK.size(1);
    const scalar_t *y = y_SD.data_ptr<scalar_t>(), *dout = dout_TD.data_ptr<scalar_t>();
    const sum_t* weights = weights_TK.data_ptr<sum_t>();
    const int64_t* pair = pair_S.data_ptr<int64_t>();
    scalar_t* dy = dy_SD.data_ptr<scalar_t>();
    sum_t* dweights = dweights_TK.data_ptr<sum_t>();
    at::parallel_for(0, pair_S.size(0), kRowsPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) {
        if (pair[s] < 0) {
          std::fill_n(dy + s * D, D, scalar_t(0));
          continue;
        }
        const scalar_t *row_y = y + s * D, *row_dout = dout + pair[s] / K * D;
        scalar_t* row_dy = dy + s * D;
        const sum_t weight = weights[pair[s]];
        sum_t dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t d = 0; d < D; ++d) {
          dot += static_cast<sum_t>(row_dout[d]) * static_cast<sum_t>(row_y[d]);
          store_rounded(row_dy + d, weight * static_cast<sum_t>(row_dout[d]));
        }
        dweights[pair[s]] = dot;
      }
    });
  }
};

}  // namespace

Tensor gather_tokens(const Tensor& x_TD, const RowMap& map) {
  TORCH_CHECK(x_TD.dim() == 2 && map.slot_TK.dim() == 2 && x_TD.size(0) == map.slot_TK.size(0),
              "gather_tokens: x_TD ", x_TD.sizes(), ", slot_TK ", map.slot_TK.sizes());
  return GatherTokens::apply(x_TD.contiguous(), map.pair_S, map.slot_TK);
}

Tensor combine_tokens(const Tensor& y_SD, const Tensor& weights_TK, const RowMap& map,
                      const Tensor& value_scale_TK) {
  TORCH_CHECK(y_SD.dim() == 2 && y_SD.size(0) == map.pair_S.size(0) &&
                  weights_TK.sizes() == map.slot_TK.sizes(),
              "combine_tokens: y_SD ", y_SD.sizes(), ", weights_TK ", weights_TK.sizes(),
              ", slot_TK ", map.slot_TK.sizes());
  const Tensor weights = weights_TK.contiguous();
  Tensor factors = weights.detach();
  if (value_scale_TK.defined()) factors = factors * value_scale_TK;
  return CombineTokens::apply(y_SD.contiguous(), weights, factors, map.pair_S, map.slot_TK);
}

}  // namespace switchyard
