#include "model/attention.h"

#include <ATen/ATen.h>

#include "ops/causal_attention.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"

// B sequences, S positions, N query heads, M key-value heads, H head width.

namespace switchyard {
namespace {

using at::Tensor;

/// (B, M, S, H) -> (B, N, S, H): each key-value head serves N / M query heads.
Tensor repeat_heads(const Tensor& x_BMSH, int64_t times) {
  if (times == 1) return x_BMSH;
  const int64_t B = x_BMSH.size(0), M = x_BMSH.size(1), S = x_BMSH.size(2), H = x_BMSH.size(3);
  return x_BMSH.unsqueeze(2).expand({B, M, times, S, H}).reshape({B, M * times, S, H});
}

/// The last `count` positions of (B, M, S, H), or all.
Tensor last_positions(const Tensor& x_BMSH, int64_t count) {
  const int64_t S = x_BMSH.size(2);
  return S <= count ? x_BMSH : x_BMSH.narrow(/*dim=*/2, S - count, count);
}

void append(Tensor& kept, const Tensor& more) {
  kept = kept.defined() ? at::cat({kept, more}, /*dim=*/2) : more;
}

}  // namespace

Attention::Attention(ParameterStore& store, const std::string& prefix, const ModelConfig& model)
    : heads_(model.num_attention_heads),
      kv_heads_(model.num_key_value_heads),
      head_dim_(model.head_dim),
      eps_(model.rms_norm_eps),
      qk_norm_(model.qk_norm),
      window_(model.sliding_window) {
  const int64_t D = model.hidden_size, NH = heads_ * head_dim_, MH = kv_heads_ * head_dim_;
  const Init init{Init::Type::kNormal, model.init_std}, zeros{Init::Type::kZeros},
      ones{Init::Type::kOnes};
  qkv_ = store.add(ParameterKind::kDense, {NH + 2 * MH, D},
                   {{prefix + ".q_proj.weight", {NH, D}, init},
                    {prefix + ".k_proj.weight", {MH, D}, init},
                    {prefix + ".v_proj.weight", {MH, D}, init}});
  if (model.attention_bias) {
    qkv_bias_ = store.add(ParameterKind::kDense, {NH + 2 * MH},
                          {{prefix + ".q_proj.bias", {NH}, zeros},
                           {prefix + ".k_proj.bias", {MH}, zeros},
                           {prefix + ".v_proj.bias", {MH}, zeros}});
  }
  out_ = store.add(ParameterKind::kDense, {prefix + ".o_proj.weight", {D, NH}, init});
  if (model.attention_output_bias) {
    out_bias_ = store.add(ParameterKind::kDense, {prefix + ".o_proj.bias", {D}, zeros});
  }
  if (qk_norm_ == "none") return;
  const bool full = qk_norm_ == "full";
  q_norm_ =
      store.add(ParameterKind::kDense, {prefix + ".q_norm.weight", {full ? NH : head_dim_}, ones});
  k_norm_ =
      store.add(ParameterKind::kDense, {prefix + ".k_norm.weight", {full ? MH : head_dim_}, ones});
}

Tensor Attention::forward(const Tensor& x_BSD, const AttentionContext& context,
                          LayerCache* cache) const {
  const int64_t B = x_BSD.size(0), S = x_BSD.size(1), NH = heads_ * head_dim_,
                MH = kv_heads_ * head_dim_;
  const Tensor qkv_BSX = linear_projection(x_BSD, qkv_, qkv_bias_);
  const HeadShape shape{heads_, kv_heads_, head_dim_};
  if (cache == nullptr && qk_norm_ == "none" && !context.mask_B1SS.defined() &&
      fits_causal_attention(qkv_BSX, shape)) {
    return linear_projection(causal_attention(qkv_BSX, context.rotary, shape), out_, out_bias_);
  }
  const auto projected = qkv_BSX.split_with_sizes({NH, MH, MH}, /*dim=*/-1);
  Tensor q = projected[0], k = projected[1];
  if (qk_norm_ == "full") {
    q = rms_norm(q, q_norm_, eps_);
    k = rms_norm(k, k_norm_, eps_);
  }
  q = q.reshape({B, S, heads_, head_dim_});
  k = k.reshape({B, S, kv_heads_, head_dim_});
  if (qk_norm_ == "head") {
    q = rms_norm(q, q_norm_, eps_);
    k = rms_norm(k, k_norm_, eps_);
  }
  q = apply_rotary(q, context.rotary).transpose(1, 2);
  k = apply_rotary(k, context.rotary).transpose(1, 2);
  Tensor v = projected[2].reshape({B, S, kv_heads_, head_dim_}).transpose(1, 2);
  const bool first_pass = cache == nullptr || !cache->keys.defined();
  if (cache != nullptr) {
    append(cache->keys, k);
    append(cache->values, v);
    k = cache->keys;
    v = cache->values;
    if (!first_pass && window_) {  // the mask of the first pass is the context's
      k = last_positions(k, *window_);
      v = last_positions(v, *window_);
    }
  }
  TORCH_CHECK(S == 1 || first_pass,
              "attention: only one position at a time may follow a filled cache");
  k = repeat_heads(k, heads_ / kv_heads_);
  v = repeat_heads(v, heads_ / kv_heads_);
  if (B == 0) return linear_projection(q.transpose(1, 2).reshape({B, S, NH}), out_, out_bias_);
  const bool causal = first_pass && !context.mask_B1SS.defined();
  const Tensor y_BNSH =
      attention_of_heads(q, k, v, context.mask_B1SS, causal ? Visible::kPast : Visible::kAll);
  return linear_projection(y_BNSH.transpose(1, 2).reshape({B, S, NH}), out_, out_bias_);
}

}  // namespace switchyard
