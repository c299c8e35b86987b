#include "loss/linear_cross_entropy.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "loss/cross_entropy.h"
#include "ops/blocked_rows.h"
#include "ops/device_products.h"
#include "ops/vector_math.h"
#include "ops/weight_gradient.h"

// T tokens, V vocabulary, D model width.

namespace switchyard {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Logits at once, about: 16 MiB in float32 that stay in the host's caches; on a device enough to
// fill it.
constexpr int64_t kLogits = 1 << 22, kDeviceLogits = 1 << 26;

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

/// The losses of some tokens, and the gradient of their sum by the logits (rows, V), which take
/// its place.
Tensor losses_of_logits(Tensor& logits_TV, const Tensor& targets_T) {
  const Tensor counted_T = targets_T != kIgnoredTarget;
  const Tensor target_T1 = at::where(counted_T, targets_T, 0).unsqueeze(1);
  const Tensor log_sum_T1 = logits_TV.logsumexp(/*dim=*/1, /*keepdim=*/true);
  const Tensor losses_T = (log_sum_T1 - logits_TV.gather(1, target_T1)).squeeze(1);
  logits_TV.sub_(log_sum_T1).exp_();
  logits_TV.scatter_(1, target_T1, logits_TV.gather(1, target_T1) - 1);
  logits_TV.masked_fill_(counted_T.logical_not().unsqueeze(1), 0);
  return at::where(counted_T, losses_T, 0);
}

/// What Chunks::run does, by LibTorch's ops.
void run_composed(const Tensor& hidden_TD, const Tensor& head_VD, const Tensor& targets_T,
                  Tensor& losses_T, Tensor& dhidden_TD, Tensor& dhead_VD) {
  const int64_t count = logits_at_once(head_VD.size(0), hidden_TD.device());
  for (int64_t t = 0; t < hidden_TD.size(0); t += count) {
    const int64_t rows = std::min(count, hidden_TD.size(0) - t);
    const Tensor hidden = hidden_TD.narrow(0, t, rows);
    Tensor logits = product(hidden, head_VD.t(), losses_T.scalar_type());
    losses_T.narrow(0, t, rows).copy_(losses_of_logits(logits, targets_T.narrow(0, t, rows)));
    const Tensor dlogits = logits.to(hidden.scalar_type());
    if (dhidden_TD.defined()) {
      Tensor dhidden = dhidden_TD.narrow(0, t, rows);
      at::mm_out(dhidden, dlogits, head_VD);
    }
    if (dhead_VD.defined()) add_product(dlogits.t(), hidden, dhead_VD);
  }
}

/// sum += scale * x, without a wait for the number where it is on a device.
void add_scaled(const Tensor& sum, const Tensor& x, const Tensor& scale) {
  if (scale.is_cpu()) {
    sum.add_(x, scale.item());
  } else {
    sum.addcmul_(x, scale);
  }
}

class LinearCrossEntropySum : public torch::autograd::Function<LinearCrossEntropySum> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& hidden_TD, const Tensor& head_VD,
                               const Tensor& targets_T, bool hidden_wanted, bool head_wanted) {
    const auto sums = hidden_TD.options().dtype(
        hidden_TD.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
    Tensor losses_T = at::empty(targets_T.sizes(), sums), dhidden_TD, dhead_VD;
    if (hidden_wanted) dhidden_TD = at::empty_like(hidden_TD);
    if (head_wanted) dhead_VD = at::zeros(head_VD.sizes(), sums);
    if (hidden_TD.is_cpu()) {
      dispatch_blocked(hidden_TD.scalar_type(), [&](auto zero) {
        Chunks<decltype(zero)>(hidden_TD, head_VD, targets_T).run(losses_T, dhidden_TD, dhead_VD);
      });
    } else {
      run_composed(hidden_TD, head_VD, targets_T, losses_T, dhidden_TD, dhead_VD);
    }
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
      add_scaled(gradient.sum(), dhead_VD, scale);
      dhead = gradient.for_autograd();
    }
    Tensor dhidden;
    if (dhidden_TD.defined())
      dhidden = scale.is_cpu() ? dhidden_TD * scale.item() : dhidden_TD * scale;
    return {dhidden, dhead, Tensor(), Tensor(), Tensor()};
  }
};

/// A target's value is looked at on its device: there the host does not wait for the answer.
void check(const Tensor& hidden_TD, const Tensor& head_VD, const Tensor& targets_T) {
  TORCH_CHECK(hidden_TD.dim() == 2 && head_VD.dim() == 2 && hidden_TD.size(1) == head_VD.size(1) &&
                  targets_T.dim() == 1 && targets_T.size(0) == hidden_TD.size(0),
              "linear_cross_entropy: hidden_TD ", hidden_TD.sizes(), ", head_VD ", head_VD.sizes(),
              ", targets_T ", targets_T.sizes());
  const Tensor in_vocabulary =
      (((targets_T >= 0) & (targets_T < head_VD.size(0))) | (targets_T == kIgnoredTarget)).all();
  if (!targets_T.is_cpu()) {
    at::_assert_async(in_vocabulary, "linear_cross_entropy: a target is not in the vocabulary");
  }
  TORCH_CHECK(hidden_TD.scalar_type() == head_VD.scalar_type() && head_VD.is_contiguous() &&
                  (!targets_T.is_cpu() || in_vocabulary.item<bool>()),
              "linear_cross_entropy: ", hidden_TD.dtype(), " hidden states, ", head_VD.dtype(),
              " head, or a target that is not in the vocabulary of ", head_VD.size(0));
}

}  // namespace

int64_t logits_at_once(int64_t vocabulary, c10::Device device) {
  const int64_t logits = device.is_cpu() ? kLogits : kDeviceLogits, most = logits / 4096;
  return std::clamp<int64_t>(logits / vocabulary / kBlockRows * kBlockRows, kBlockRows, most);
}

LinearCrossEntropy linear_cross_entropy(const Tensor& hidden_TD, const Tensor& head_VD,
                                        const Tensor& targets_T) {
  check(hidden_TD, head_VD, targets_T);
  const Tensor hidden = hidden_TD.contiguous();
  if (hidden.is_cpu() && (!has_blocked_gemm(hidden.scalar_type()) || hidden.size(1) % 2 != 0)) {
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
