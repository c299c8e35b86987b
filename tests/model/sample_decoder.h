#pragma once

#include <ATen/ATen.h>

#include <map>
#include <string>

#include "config/load_config.h"
#include "distributed/solo_communicator.h"
#include "model/decoder.h"
#include "support/tensors.h"

// B sequences of S tokens, V vocabulary.

namespace switchyard {

inline constexpr int64_t kVocabulary = 19;

/// A small model whose weights are wide enough for tokens to matter.
inline ModelConfig small_model() {
  ModelConfig model;
  model.vocab_size = kVocabulary;
  model.hidden_size = 8;
  model.num_hidden_layers = 2;
  model.num_attention_heads = 4;
  model.num_key_value_heads = 2;
  model.head_dim = 4;
  model.intermediate_size = 12;
  model.init_std = 0.4;
  return model;
}

inline MoeConfig small_moe() {
  MoeConfig moe;
  moe.num_experts = 8;
  moe.top_k = 2;
  moe.expert_intermediate_size = 6;
  return moe;
}

inline Mesh solo_mesh() {
  return {make_solo_communicator("world"), make_solo_communicator("expert parallel"),
          make_solo_communicator("expert data parallel")};
}

/// A decoder with its parameters, on a mesh that outlives it.
struct SampleDecoder {
  ParameterStore store;
  Decoder decoder;

  SampleDecoder(ModelConfig model, const MoeConfig& moe, const Mesh& mesh)
      : decoder(store, (resolve_autos(model), model), moe, mesh, /*seed=*/3) {
    ParameterStore::Options options;
    options.seed = 3;
    store.allocate(mesh, options);
  }

  /// Logits (B, S, V) in `mode`, without a gradient.
  at::Tensor logits(const DecoderInput& input, KvCache* cache = nullptr) const {
    const at::Tensor logits_TV = decoder.logits(decoder.forward(input, cache).hidden_TD);
    return logits_TV.detach().view(
        {input.tokens_BS.size(0), input.tokens_BS.size(1), logits_TV.size(1)});
  }

  std::map<std::string, PlacedPart> parts() const {
    std::map<std::string, PlacedPart> parts;
    for (const PlacedPart& placed : store.parts()) parts.emplace(placed.part.name, placed);
    return parts;
  }
};

inline DecoderInput input_of(const at::Tensor& tokens_BS, Mode mode = Mode::kEval) {
  DecoderInput input;
  input.tokens_BS = tokens_BS;
  input.mode = mode;
  return input;
}

/// Token ids, a function of (name, element).
inline at::Tensor sample_tokens(int64_t B, int64_t S, const char* name = "tokens") {
  const at::Tensor x_BS = normal_tensor({B, S}, name);
  return (x_BS * 1000).floor().to(at::kLong).remainder(kVocabulary);
}

}  // namespace switchyard
