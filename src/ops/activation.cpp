#include "ops/activation.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ops/composed.h"
#include "ops/cuda/kernels.h"

namespace switchyard {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// silu(gate) * up over [gate | up], keeping only the input for backward.
class SwiGlu : public torch::autograd::Function<SwiGlu> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& h_R2F) {
    ctx->save_for_backward({h_R2F});
    if (cuda::has_kernels(h_R2F)) return cuda::swiglu(h_R2F);
    if (!h_R2F.is_cpu()) return composed::swiglu(h_R2F);
    const auto halves = h_R2F.chunk(2, /*dim=*/-1);
    return at::silu(halves[0]).mul_(halves[1]);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const Tensor h_R2F = ctx->get_saved_variables()[0];
    if (cuda::has_kernels(h_R2F)) return {cuda::swiglu_gradient(h_R2F, grads[0].contiguous())};
    if (!h_R2F.is_cpu()) return {composed::swiglu_gradient(h_R2F, grads[0])};
    const auto halves = h_R2F.chunk(2, /*dim=*/-1);
    Tensor dh_R2F = at::empty_like(h_R2F);
    auto dhalves = dh_R2F.chunk(2, /*dim=*/-1);
    at::mul_out(dhalves[1], grads[0], at::silu(halves[0]));
    dhalves[0].copy_(at::silu_backward(grads[0] * halves[1], halves[0]));
    return {dh_R2F};
  }
};

}  // namespace

Ffn parse_ffn(const std::string& word) {
  if (word == "swiglu") return Ffn::kSwiGlu;
  if (word == "geglu") return Ffn::kGeGlu;
  if (word == "gelu") return Ffn::kGelu;
  TORCH_CHECK(word == "relu", "model.ffn: ", word);
  return Ffn::kRelu;
}

Tensor ffn_activation(const Tensor& h, Ffn ffn) {
  switch (ffn) {
    case Ffn::kSwiGlu:
      return SwiGlu::apply(h.is_cpu() ? h : h.contiguous());
    case Ffn::kGelu:
      return at::gelu(h);
    case Ffn::kRelu:
      return at::relu(h);
    case Ffn::kGeGlu:
      break;
  }
  const auto halves = h.chunk(2, /*dim=*/-1);
  return at::gelu(halves[0]) * halves[1];
}

}  // namespace switchyard
