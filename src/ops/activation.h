#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace switchyard {

/// The nonlinearity of a feed-forward layer, dense or expert.
enum class Ffn { kSwiGlu, kGeGlu, kGelu, kRelu };

/// From `model.ffn`: swiglu | geglu | gelu | relu. Throws c10::Error otherwise
/// (the config has been checked before).
Ffn parse_ffn(const std::string& word);

/// Whether the layer has a gate beside the up projection.
inline bool is_gated(Ffn ffn) { return ffn == Ffn::kSwiGlu || ffn == Ffn::kGeGlu; }

/// Gated: h_RF2 = [gate | up] (R, 2F), returns act(gate) * up (R, F), Shazeer
/// arXiv:2002.05202 eq. 6 (silu for swiglu, exact gelu for geglu). Not gated:
/// act(h) elementwise. Differentiable. Local.
at::Tensor ffn_activation(const at::Tensor& h, Ffn ffn);

}  // namespace switchyard
