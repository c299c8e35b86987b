#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "config/run_config.h"
#include "ops/rotary.h"
#include "optim/parameter_store.h"

namespace switchyard {

/// Keys and values of the positions seen so far, of one layer: (B, heads_kv, S, head_dim).
struct LayerCache {
  at::Tensor keys, values;
};

/// What attention may look at, shared by all layers of a forward pass.
struct AttentionContext {
  RotaryTable rotary;    // of the S positions of this pass
  at::Tensor mask_B1SS;  // bool, true where allowed, B or 1; undefined: causal only
};

/// Causal grouped-query self-attention of the Llama family (Vaswani et al.,
/// arXiv:1706.03762 eq. 1; Ainslie et al., arXiv:2305.13245), with rotary
/// positions and, by `qk_norm`, an RMSNorm of queries and keys before them: per
/// head (Qwen3) or over the whole vector (OLMoE).
///
/// Parameters under PREFIX (model.layers.L.self_attn), N query heads, M key-value
/// heads of width H: q_proj.weight (N H, D), k_proj.weight and v_proj.weight
/// (M H, D), o_proj.weight (D, N H); with `attention_bias` {q,k,v}_proj.bias; with
/// `attention_output_bias` o_proj.bias (D); with qk_norm {q,k}_norm.weight (H), or (N H)
/// and (M H) for `full`.
class Attention {
 public:
  Attention(ParameterStore& store, const std::string& prefix, const ModelConfig& model);

  /// x_BSD (B, S, D) -> (B, S, D). With a cache, the S positions follow those in
  /// it and are appended; S is 1 or the cache is empty. Local.
  at::Tensor forward(const at::Tensor& x_BSD, const AttentionContext& context,
                     LayerCache* cache) const;

 private:
  int64_t heads_, kv_heads_, head_dim_;
  double eps_;
  std::string qk_norm_;
  std::optional<int64_t> window_;
  at::Tensor qkv_, qkv_bias_, out_, out_bias_, q_norm_, k_norm_;
};

}  // namespace switchyard
