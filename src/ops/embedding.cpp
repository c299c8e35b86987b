#include "ops/embedding.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ops/dispatch_dtype.h"
#include "ops/weight_gradient.h"

namespace switchyard {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kColumnsPerTask = 64;  // a thread's own, so that sums keep their order

template <class scalar_t, class sum_t>
void add_rows(const Tensor& dy_TD, const int64_t* tokens, const Tensor& sum_VD) {
  const int64_t T = dy_TD.size(0), D = dy_TD.size(1);
  const scalar_t* dy = dy_TD.data_ptr<scalar_t>();
  sum_t* sum = sum_VD.data_ptr<sum_t>();
  at::parallel_for(0, D, kColumnsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t t = 0; t < T; ++t) {
      const scalar_t* from = dy + t * D;
      sum_t* to = sum + tokens[t] * D;
#pragma omp simd
      for (int64_t d = begin; d < end; ++d) to[d] += static_cast<sum_t>(from[d]);
    }
  });
}

class Embedding : public torch::autograd::Function<Embedding> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& weight_VD, const Tensor& tokens_T) {
    ctx->save_for_backward({weight_VD, tokens_T});
    return at::embedding(weight_VD, tokens_T);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const WeightGradient gradient(saved[0]);
    const Tensor dy_TD = grads[0].contiguous();
    if (!dy_TD.is_cpu()) {
      // In float32, sorted by token inside: repeatable to the bit.
      const Tensor& sum_VD = gradient.sum();
      sum_VD.add_(at::embedding_dense_backward(dy_TD.to(sum_VD.scalar_type()), saved[1],
                                               sum_VD.size(0), /*padding_idx=*/-1,
                                               /*scale_grad_by_freq=*/false));
      return {gradient.for_autograd(), Tensor()};
    }
    const int64_t* tokens = saved[1].data_ptr<int64_t>();
    dispatch_dtype(dy_TD.scalar_type(), [&](auto zero) {
      using scalar_t = decltype(zero);
      add_rows<scalar_t, accumulate_t<scalar_t>>(dy_TD, tokens, gradient.sum());
    });
    return {gradient.for_autograd(), Tensor()};
  }
};

}  // namespace

Tensor embed_tokens(const Tensor& weight_VD, const Tensor& tokens) {
  std::vector<int64_t> shape = tokens.sizes().vec();
  shape.push_back(weight_VD.size(1));
  return Embedding::apply(weight_VD, tokens.reshape({-1}).contiguous()).view(shape);
}

}  // namespace switchyard
