#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <optional>
#include <vector>

#include "model/attention.h"
#include "moe/moe_layer.h"
#include "optim/bucketed_reduction.h"

namespace switchyard {

/// Keys and values of all layers, for generation.
struct KvCache {
  std::vector<LayerCache> layers;
  int64_t length = 0;        // positions in it
  at::Tensor last_tokens_B;  // (B) int64: the last token of each sequence
};

/// The tokens of one forward pass, on any device; `order_B` on the host.
struct DecoderInput {
  at::Tensor tokens_BS;  // (B, S) int64; B may be 0
  at::Tensor valid_BS;   // (B, S) bool, or undefined: padding is false, and is not routed
  at::Tensor
      documents_BS;    // (B, S) int64, or undefined: positions of different documents do not attend
  at::Tensor order_B;  // (B) int64: index in the run's sample order; undefined: 0, 1, ...
  at::Tensor domains_B;  // (B) int64: source of each sequence, or undefined: unknown
  Mode mode = Mode::kTrain;
  int64_t group_sequences = 1;
  bool keep_moe_inputs = false;  // hand them out with the output: for diagnostics
  /// Begins in this pass's backward, which is then collective over the world; null: later.
  BucketedReduction* reduction = nullptr;
};

struct DecoderOutput {
  at::Tensor hidden_TD;                        // (B * S, D) after the last norm
  std::vector<RouterRecord> routers;           // one per MoE layer, in order
  std::vector<at::Tensor> moe_inputs_TD = {};  // of each MoE layer, with keep_moe_inputs
};

/// A decoder of the Llama family with dense and MoE layers mixed at will:
///
///   h = embed(tokens);  h += attention(norm(h));  h += ffn(norm(h));  ...;  norm(h)
///
/// Parameters carry Hugging Face's Qwen3-MoE names: model.embed_tokens.weight
/// (V, D), model.layers.L.{input,post_attention}_layernorm.weight (D), those of
/// Attention, FeedForward and MoeLayer, model.norm.weight (D), lm_head.weight
/// (V, D; absent when tied).
class Decoder {
 public:
  /// Registers every parameter with `store`, a bucket for each layer; the caller allocates it
  /// afterwards, and it outlives the decoder. vocab_size, num_key_value_heads and head_dim are
  /// resolved. `mesh` must outlive the decoder. `device` is where the parameters will be.
  Decoder(ParameterStore& store, const ModelConfig& model, const MoeConfig& moe, const Mesh& mesh,
          uint64_t seed, Recompute recompute = Recompute::kNone, c10::Device device = at::kCPU);

  /// Collective over the expert group of the mesh, once per MoE layer, and while the store gathers
  /// weights, which it waits for layer by layer, over its groups. With Recompute::kLayer a
  /// layer's input, the router's and its routing are what stays of it until backward. The decoder
  /// must outlive the graph. The input may be on the host: it is copied to the device.
  DecoderOutput forward(const DecoderInput& input, KvCache* cache = nullptr) const;

  /// Vocabulary logits (T, V) of hidden states (T, D) that `forward` has made. Local.
  at::Tensor logits(const at::Tensor& hidden_TD) const;
  /// The matrix that makes them: (V, D).
  const at::Tensor& head() const { return head_VD_; }

  /// State of the MoE layers by name ("model.layers.3.mlp.gate.e_score_correction_bias"),
  /// in layer order: float32, equal on all ranks.
  NamedState router_state() const;

  /// Moves it on, once per optimizer step: one RouterStep per MoE layer. Local.
  void update_router_state(const std::vector<RouterStep>& steps);

  /// Whether the routers' state is made from the training data's token counts.
  bool wants_token_counts() const;
  /// counts_V (V) int64. Local.
  void use_token_counts(const at::Tensor& counts_V);

  int64_t num_moe_layers() const;
  /// Decoder-layer index of each MoE layer, in order.
  const std::vector<int64_t>& moe_layers() const { return moe_layers_; }
  /// The MoE layer of decoder layer `layer`, which is one.
  const MoeLayer& moe_layer(int64_t layer) const { return *layers_.at(layer).moe; }

 private:
  struct Layer {
    int64_t bucket;
    at::Tensor input_norm, post_attention_norm;
    Attention attention;
    std::optional<MoeLayer> moe;
    std::optional<FeedForward> dense;
  };

  /// What the feed-forward layer adds to and what it reads, from what the layer before handed on:
  /// {h_BSD, x_TD}.
  std::vector<at::Tensor> attended(int64_t l, const at::Tensor& h_BSD, const AttentionContext& seen,
                                   const TokenContext& context, LayerCache* cache) const;
  DecoderInput on_device(const DecoderInput& input) const;
  AttentionContext attention_context(const DecoderInput& input, int64_t past) const;
  TokenContext token_context(const DecoderInput& input, const KvCache* cache) const;
  at::Tensor dropout(const at::Tensor& x_BSD, const char* place, int64_t layer,
                     const TokenContext& context) const;

  ParameterStore& store_;
  ModelConfig config_;
  uint64_t seed_;
  Recompute recompute_;
  c10::Device device_;
  at::Tensor rotary_frequencies_H_;
  at::Tensor embedding_VD_, norm_D_, head_VD_;
  std::vector<Layer> layers_;
  std::vector<int64_t> moe_layers_;
  int64_t last_bucket_ = 0;  // of the last norm and the head
};

}  // namespace switchyard
