#include "moe/feed_forward.h"

#include <ATen/ATen.h>

#include "ops/linear.h"
#include "ops/swiglu_experts.h"

namespace switchyard {

FeedForward::FeedForward(ParameterStore& store, const std::string& prefix, int64_t hidden_size,
                         int64_t intermediate_size, Ffn ffn, double init_std, Recompute recompute)
    : ffn_(ffn), recompute_(recompute) {
  const int64_t D = hidden_size, F = intermediate_size;
  const Init init{Init::Type::kNormal, init_std};
  std::vector<NamedPart> in_parts;
  if (is_gated(ffn)) in_parts.push_back({prefix + ".gate_proj.weight", {F, D}, init});
  in_parts.push_back({prefix + ".up_proj.weight", {F, D}, init});
  in_FD_ =
      store.add(ParameterKind::kDense, {static_cast<int64_t>(in_parts.size()) * F, D}, in_parts);
  down_DF_ = store.add(ParameterKind::kDense, {prefix + ".down_proj.weight", {D, F}, init});
}

at::Tensor FeedForward::forward(const at::Tensor& x_TD) const {
  const bool again = recompute_ == Recompute::kExperts;
  if (ffn_ == Ffn::kSwiGlu && fits_swiglu_experts(x_TD, in_FD_, down_DF_)) {
    return swiglu_experts(x_TD, in_FD_, down_DF_, {x_TD.size(0)},
                          again ? Inner::kMadeAgain : Inner::kKept);
  }
  if (!again) return composed(x_TD);
  const Piece piece = [this](const std::vector<at::Tensor>& inputs) {
    return std::vector<at::Tensor>{composed(inputs[0])};
  };
  return recomputed(piece, {x_TD})[0];
}

at::Tensor FeedForward::composed(const at::Tensor& x_TD) const {
  return linear_projection(ffn_activation(linear_projection(x_TD, in_FD_), ffn_), down_DF_);
}

}  // namespace switchyard
