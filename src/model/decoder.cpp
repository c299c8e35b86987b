#include "model/decoder.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "config/load_config.h"
#include "ops/dropout.h"
#include "ops/embedding.h"
#include "ops/host_copy.h"
#include "ops/linear.h"
#include "ops/region.h"
#include "ops/rms_norm.h"

// B sequences, S positions, T = B * S tokens, D model width, V vocabulary.

namespace switchyard {

using at::Tensor;

Decoder::Decoder(ParameterStore& store, const ModelConfig& model, const MoeConfig& moe,
                 const Mesh& mesh, uint64_t seed, Recompute recompute, c10::Device device)
    : store_(store),
      config_(model),
      seed_(seed),
      recompute_(recompute),
      device_(device),
      rotary_frequencies_H_(rotary_frequencies(model).to(device)),
      moe_layers_(moe_layer_indices(moe, model.num_hidden_layers)) {
  const Init init{Init::Type::kNormal, model.init_std}, ones{Init::Type::kOnes};
  const int64_t D = model.hidden_size, V = model.vocab_size;
  const auto norm = [&](const std::string& name) {
    return store.add(ParameterKind::kDense, {name, {D}, ones});
  };

  embedding_VD_ = store.add(ParameterKind::kDense, {"model.embed_tokens.weight", {V, D}, init});
  for (int64_t l = 0; l < model.num_hidden_layers; ++l) {
    const std::string prefix = "model.layers." + std::to_string(l);
    Layer layer{store.begin_bucket(),
                norm(prefix + ".input_layernorm.weight"),
                norm(prefix + ".post_attention_layernorm.weight"),
                Attention(store, prefix + ".self_attn", model),
                std::nullopt,
                std::nullopt};
    if (std::binary_search(moe_layers_.begin(), moe_layers_.end(), l)) {
      layer.moe.emplace(store, prefix + ".mlp", model, moe, l, mesh, recompute, device);
    } else {
      layer.dense.emplace(store, prefix + ".mlp", D, model.intermediate_size, parse_ffn(model.ffn),
                          model.init_std,
                          recompute == Recompute::kNone ? recompute : Recompute::kExperts);
    }
    layers_.push_back(std::move(layer));
  }
  last_bucket_ = store.begin_bucket();
  norm_D_ = norm("model.norm.weight");
  head_VD_ = model.tie_word_embeddings
                 ? embedding_VD_
                 : store.add(ParameterKind::kDense, {"lm_head.weight", {V, D}, init});
}

DecoderOutput Decoder::forward(const DecoderInput& given, KvCache* cache) const {
  const DecoderInput input = on_device(given);
  const int64_t D = config_.hidden_size;
  if (cache != nullptr) cache->layers.resize(layers_.size());
  const AttentionContext attention = attention_context(input, cache != nullptr ? cache->length : 0);
  TokenContext context = token_context(input, cache);

  DecoderOutput output;
  Region part("embedding");
  store_.need_weights(0);
  Tensor h_BSD = dropout(embed_tokens(embedding_VD_, input.tokens_BS), "embedding", 0, context);
  for (size_t l = 0; l < layers_.size(); ++l) {
    const Layer& layer = layers_[l];
    const auto index = static_cast<int64_t>(l);
    part.next("attention");
    store_.need_weights(layer.bucket);
    if (input.reduction != nullptr) h_BSD = input.reduction->mark(h_BSD, layer.bucket);
    LayerCache* layer_cache = cache != nullptr ? &cache->layers[l] : nullptr;
    const Piece attend = [=, this](const std::vector<Tensor>& inputs) {
      return attended(index, inputs[0], attention, context, layer_cache);
    };
    const bool again = recompute_ == Recompute::kLayer && cache == nullptr;
    const std::vector<Tensor> both = again ? recomputed(attend, {h_BSD}) : attend({h_BSD});
    const Tensor &residual_BSD = both[0], &x_TD = both[1];

    part.next("feed_forward");
    Tensor y_TD;
    if (layer.moe) {
      if (input.keep_moe_inputs) output.moe_inputs_TD.push_back(x_TD);
      MoeOutput moe = layer.moe->forward(x_TD, context);
      y_TD = moe.y_TD;
      context.memory_TP = moe.record.memory_TP;
      output.routers.push_back(std::move(moe.record));
    } else {
      y_TD = layer.dense->forward(x_TD);
    }
    h_BSD = residual_BSD + dropout(y_TD.view(h_BSD.sizes()), "feed_forward", index, context);
  }
  part.next("head_loss");
  store_.need_weights(last_bucket_);
  if (input.reduction != nullptr) h_BSD = input.reduction->mark(h_BSD, last_bucket_);
  output.hidden_TD = rms_norm(h_BSD, norm_D_, config_.rms_norm_eps).view({-1, D});
  if (cache != nullptr) {
    cache->length += input.tokens_BS.size(1);
    cache->last_tokens_B = input.tokens_BS.select(1, -1);
  }
  return output;
}

std::vector<Tensor> Decoder::attended(int64_t l, const Tensor& h_BSD, const AttentionContext& seen,
                                      const TokenContext& context, LayerCache* cache) const {
  const Layer& layer = layers_[l];
  Region part("attention");
  const Tensor normed_BSD = rms_norm(h_BSD, layer.input_norm, config_.rms_norm_eps);
  const Tensor sum_BSD =
      h_BSD + dropout(layer.attention.forward(normed_BSD, seen, cache), "attention", l, context);
  part.next("feed_forward");
  const Tensor x_BSD = rms_norm(sum_BSD, layer.post_attention_norm, config_.rms_norm_eps);
  return {sum_BSD, x_BSD.view({-1, config_.hidden_size})};
}

Tensor Decoder::logits(const Tensor& hidden_TD) const {
  return linear_projection(hidden_TD, head_VD_);
}

DecoderInput Decoder::on_device(const DecoderInput& input) const {
  DecoderInput there = input;
  for (Tensor* x : {&there.tokens_BS, &there.valid_BS, &there.documents_BS, &there.domains_B}) {
    if (x->defined()) *x = copy_to_device(*x, device_);
  }
  return there;
}

AttentionContext Decoder::attention_context(const DecoderInput& input, int64_t past) const {
  AttentionContext context;
  const int64_t S = input.tokens_BS.size(1);
  context.rotary = rotary_table(past, S, rotary_frequencies_H_);
  const bool windowed = config_.sliding_window && *config_.sliding_window < S;
  if (!input.documents_BS.defined() && !windowed) return context;
  Tensor seen_SS = at::ones({S, S}, at::TensorOptions(device_).dtype(at::kBool)).tril();
  if (windowed) seen_SS = seen_SS.triu(1 - *config_.sliding_window);
  context.mask_B1SS = seen_SS.view({1, 1, S, S});
  if (input.documents_BS.defined()) {
    const Tensor same_BSS = input.documents_BS.unsqueeze(2) == input.documents_BS.unsqueeze(1);
    context.mask_B1SS = context.mask_B1SS & same_BSS.unsqueeze(1);
  }
  return context;
}

TokenContext Decoder::token_context(const DecoderInput& input, const KvCache* cache) const {
  const int64_t B = input.tokens_BS.size(0), S = input.tokens_BS.size(1);
  TokenContext context;
  context.mode = input.mode;
  context.tokens_per_sequence = S;
  context.tokens_per_group = S * input.group_sequences;
  context.seed = seed_;
  context.device = device_;
  context.order_B = input.order_B.defined() ? input.order_B : at::arange(B, at::kLong);
  context.tokens_T = input.tokens_BS.reshape({-1});
  if (input.valid_BS.defined()) context.valid_T = input.valid_BS.reshape({-1});
  if (input.domains_B.defined()) context.domains_T = input.domains_B.repeat_interleave(S);
  const bool goes_on = cache != nullptr && cache->length > 0;
  const Tensor before_B1 =
      goes_on ? cache->last_tokens_B.unsqueeze(1) : at::full({B, 1}, -1, input.tokens_BS.options());
  context.previous_T =
      at::cat({before_B1, input.tokens_BS}, /*dim=*/1).narrow(1, 0, S).reshape({-1});
  context.first_position = goes_on ? cache->length : 0;
  return context;
}

Tensor Decoder::dropout(const Tensor& x_BSD, const char* place, int64_t layer,
                        const TokenContext& context) const {
  if (config_.dropout == 0.0 || context.mode != Mode::kTrain) return x_BSD;
  const std::string purpose = std::string("dropout/") + place + "/" + std::to_string(layer);
  return counter_dropout(x_BSD, config_.dropout, context.seed, purpose, context.order_B);
}

NamedState Decoder::router_state() const {
  NamedState all;
  for (const int64_t l : moe_layers_) {
    for (auto& named : layers_[l].moe->state()) all.push_back(std::move(named));
  }
  return all;
}

void Decoder::update_router_state(const std::vector<RouterStep>& steps) {
  for (size_t i = 0; i < moe_layers_.size(); ++i) {
    layers_[moe_layers_[i]].moe->update_state(steps.at(i));
  }
}

bool Decoder::wants_token_counts() const {
  return std::ranges::any_of(
      moe_layers_, [&](int64_t l) { return layers_[l].moe->router().wants_token_counts(); });
}

void Decoder::use_token_counts(const Tensor& counts_V) {
  for (const int64_t l : moe_layers_) layers_[l].moe->use_token_counts(counts_V);
}

int64_t Decoder::num_moe_layers() const { return static_cast<int64_t>(moe_layers_.size()); }

}  // namespace switchyard
