#include "loss/linear_cross_entropy.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "loss/cross_entropy.h"
#include "ops/blocked_rows.h"
#include "ops/vector_math.h"
#include "ops/weight_gradient.h"

// T tokens, V vocabulary, D model width.

namespace switchyard {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kLogits = 1 << 22;  // at once, about: 16 MiB in float32

/// One token's logits: the loss, and the gradient of it by them.
template <class scalar_t>
float loss_of_row(const float* logits, int64_t V, int64_t target, scalar_t* dlogits) {
  const float max = largest(logits, V);
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t v = 0; v < V; ++v) sum += fast_exp(logits[v] - max);
  const float log_sum = max + std::log(sum);
#pragma omp simd
  for (int64_t v = 0; v < V; ++v) store_rounded(dlogits + v, fast_exp(logits[v] - log_sum));
  dlogits[target] = static_cast<scalar_t>(std::exp(logits[target] - log_sum) - 1.0F);
  return log_sum - logits[target];
}

/// Some tokens at a time: their logits and the gradient of these.
template <class scalar_t>
class Chunks {
 public:
  Chunks(const Tensor& hidden_TD, const Tensor& head_VD, const Tensor& targets_T)
      : hidden_(matrix_ref<scalar_t>(hidden_TD)),
        head_(matrix_ref<scalar_t>(head_VD)),
        targets_(targets_T.data_ptr<int64_t>()),
        V_(head_.rows),
        depth_(round_up(V_, 32)),
        stride_(row_stride(depth_, sizeof(scalar_t))),
        count_(std::min(logits_at_once(V_), round_up(hidden_TD.size(0), kBlockRows))),
        logits_(at::empty({count_, stride_}, at::kFloat)),
        dlogits_(at::zeros({count_, stride_}, hidden_TD.options())) {}

  /// Where to: any of dhidden_TD (T, D) and dhead_VD (V, D) float32 may be undefined.
  void run(Tensor& losses_T, Tensor& dhidden_TD, Tensor& dhead_VD) {
    for (int64_t t = 0; t < hidden_.rows; t += count_) {
      const int64_t rows = std::min(count_, hidden_.rows - t);
      fill_logits(t, rows);
      fill_losses(t, rows, losses_T.data_ptr<float>() + t);
      const MatrixRef<scalar_t> dlogits{dlogits_.data_ptr<scalar_t>(), rows, V_, stride_};
      if (dhidden_TD.defined()) {
        store_hidden_gradient(rows, dhidden_TD.data_ptr<scalar_t>() + t * hidden_.columns);
      }
      if (dhead_VD.defined()) {
        add_outer_products(dlogits, hidden_.rows_from(t, rows), {rows}, dhead_VD.data_ptr<float>());
      }
    }
  }

 private:
  void fill_logits(int64_t t, int64_t rows) {
    float* logits = logits_.data_ptr<float>();
    const auto pack = [&](Panel<scalar_t>& panel, int64_t, int64_t p) {
      const int64_t first = p * kPanelColumns, columns = std::min(kPanelColumns, V_ - first);
      panel.reshape(head_.columns, columns);
      panel.pack_transposed(head_.rows_from(first, columns));
    };
    for_each_tile(hidden_.rows_from(t, rows), {rows}, panels_of(V_), pack,
                  rounded_into(logits, stride_));
  }

  void fill_losses(int64_t t, int64_t rows, float* losses) {
    const float* logits = logits_.data_ptr<float>();
    scalar_t* dlogits = dlogits_.data_ptr<scalar_t>();
    at::parallel_for(0, rows, 4, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t target = targets_[t + r];
        if (target == kIgnoredTarget) {
          losses[r] = 0;
          std::fill_n(dlogits + r * stride_, V_, scalar_t(0));
        } else {
          losses[r] = loss_of_row(logits + r * stride_, V_, target, dlogits + r * stride_);
        }
      }
    });
  }

  void store_hidden_gradient(int64_t rows, scalar_t* dhidden) {
    const int64_t D = head_.columns;
    const auto pack = [&](Panel<scalar_t>& panel, int64_t, int64_t p) {
      const int64_t first = p * kPanelColumns, columns = std::min(kPanelColumns, D - first);
      panel.reshape(V_, columns);
      panel.pack(head_.columns_from(first, columns));
    };
    // Up to `depth_` columns, the last of which are zero, as the panel's rows are.
    const MatrixRef<scalar_t> dlogits{dlogits_.data_ptr<scalar_t>(), rows, depth_, stride_};
    for_each_tile(dlogits, {rows}, panels_of(D), pack, rounded_into(dhidden, D));
  }

  MatrixRef<scalar_t> hidden_, head_;
  const int64_t* targets_;
  int64_t V_, depth_, stride_, count_;
  Tensor logits_, dlogits_;
};

class LinearCrossEntropySum : public torch::autograd::Function<LinearCrossEntropySum> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& hidden_TD, const Tensor& head_VD,
                               const Tensor& targets_T, bool hidden_wanted, bool head_wanted) {
    Tensor losses_T = at::empty(targets_T.sizes(), at::kFloat), dhidden_TD, dhead_VD;
    if (hidden_wanted) dhidden_TD = at::empty_like(hidden_TD);
    if (head_wanted) dhead_VD = at::zeros(head_VD.sizes(), at::kFloat);
    dispatch_blocked(hidden_TD.scalar_type(), [&](auto zero) {
      Chunks<decltype(zero)>(hidden_TD, head_VD, targets_T).run(losses_T, dhidden_TD, dhead_VD);
    });
    ctx->save_for_backward({head_VD, dhidden_TD, dhead_VD});
    ctx->mark_non_differentiable({losses_T});
    return {losses_T.sum(), losses_T};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &head_VD = saved[0], &dhidden_TD = saved[1], &dhead_VD = saved[2];
    const Tensor& scale = grads[0];
    Tensor dhead;
    if (dhead_VD.defined()) {
      const WeightGradient gradient(head_VD);
      gradient.sum().add_(dhead_VD, scale.item());
      dhead = gradient.for_autograd();
    }
    Tensor dhidden;
    if (dhidden_TD.defined()) dhidden = dhidden_TD * scale.item();
    return {dhidden, dhead, Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

int64_t logits_at_once(int64_t vocabulary) {
  return std::clamp<int64_t>(kLogits / vocabulary / kBlockRows * kBlockRows, kBlockRows, 1024);
}

LinearCrossEntropy linear_cross_entropy(const Tensor& hidden_TD, const Tensor& head_VD,
                                        const Tensor& targets_T) {
  TORCH_CHECK(hidden_TD.dim() == 2 && head_VD.dim() == 2 && hidden_TD.size(1) == head_VD.size(1) &&
                  targets_T.dim() == 1 && targets_T.size(0) == hidden_TD.size(0),
              "linear_cross_entropy: hidden_TD ", hidden_TD.sizes(), ", head_VD ", head_VD.sizes(),
              ", targets_T ", targets_T.sizes());
  TORCH_CHECK(
      hidden_TD.scalar_type() == head_VD.scalar_type() && head_VD.is_contiguous() &&
          (((targets_T >= 0) & (targets_T < head_VD.size(0))) | (targets_T == kIgnoredTarget))
              .all()
              .item<bool>(),
      "linear_cross_entropy: ", hidden_TD.dtype(), " hidden states, ", head_VD.dtype(),
      " head, or a target that is not in the vocabulary of ", head_VD.size(0));
  const Tensor hidden = hidden_TD.contiguous();
  if (!has_blocked_gemm(hidden.scalar_type()) || hidden.size(1) % 2 != 0) {
    const Tensor logits_TV = at::linear(hidden, head_VD);
    return {cross_entropy_sum(logits_TV, targets_T),
            cross_entropy_of_tokens(logits_TV.detach(), targets_T)};
  }
  const bool graph = c10::GradMode::is_enabled();
  const variable_list outputs = LinearCrossEntropySum::apply(
      hidden, head_VD, targets_T.contiguous(), graph && hidden.requires_grad(),
      graph && head_VD.requires_grad());
  return {outputs[0], outputs[1]};
}

}  // namespace switchyard
