#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <string>
#include <utility>

#include "distributed/solo_communicator.h"
#include "moe/moe_layer.h"
#include "optim/parameter_store.h"
#include "support/tensors.h"

// B sequences of S tokens, T = B * S, E experts, K experts per token, D model width.

namespace switchyard {

/// `sequences` sequences of `length` tokens, each a routing group; `first` is the
/// place of the first one in the run's order.
inline TokenContext context_of(int64_t sequences, int64_t length, int64_t first = 0) {
  TokenContext context;
  context.tokens_per_sequence = context.tokens_per_group = length;
  context.seed = 7;
  context.order_B = at::arange(first, first + sequences, at::kLong);
  context.tokens_T = at::zeros({sequences * length}, at::kLong);
  return context;
}

/// A bool tensor (T) from zeros and ones.
inline at::Tensor bools(const std::vector<int64_t>& values) {
  return at::tensor(values, at::kLong).to(at::kBool);
}

/// Weights that make a router's logits its input: the identity.
inline RouterTensors identity_weights(int64_t num_experts) { return {{at::eye(num_experts)}, {}}; }

/// The place of a router in a model of its own.
inline RouterPlace place_of(int64_t hidden_size, int64_t num_experts, int64_t top_k) {
  RouterPlace place;
  place.hidden_size = hidden_size;
  place.vocab_size = 64;
  place.num_experts = num_experts;
  place.top_k = top_k;
  place.init_std = 0.5;
  return place;
}

inline Mesh solo_mesh() {
  return {make_solo_communicator("world"), make_solo_communicator("expert parallel"),
          make_solo_communicator("expert data parallel")};
}

/// One MoE layer with its parameters, on a mesh that outlives it.
struct SampleMoe {
  ParameterStore store;
  MoeLayer layer;

  SampleMoe(const ModelConfig& model, const MoeConfig& moe, const Mesh& mesh,
            std::function<UpdateRule(const NamedPart&)> rule = {},
            at::ScalarType dtype = at::kFloat)
      : layer(store, "mlp", model, moe, /*layer=*/3, mesh) {
    ParameterStore::Options options;
    options.seed = 5;
    options.rule = std::move(rule);
    options.dtype = dtype;
    store.allocate(mesh, options);
  }

  /// By the name after the layer's prefix, or by the whole one.
  const PlacedPart& named(const std::string& name) const {
    for (const PlacedPart& placed : store.parts()) {
      if (placed.part.name == "mlp." + name || placed.part.name == name) return placed;
    }
    throw std::out_of_range(name);
  }
  at::Tensor weight(const std::string& name) const { return store.weight_of(named(name)); }
  at::Tensor gradient(const std::string& name) const { return store.gradient_of(named(name)); }
};

/// Wide enough values for a router that decides and experts that differ.
inline ModelConfig sample_model() {
  ModelConfig model;
  model.hidden_size = 6;
  model.init_std = 0.5;
  return model;
}

/// Eight experts, no losses but those that a test adds.
inline MoeConfig sample_moe_config(int64_t top_k = 2) {
  MoeConfig moe;
  moe.num_experts = 8;
  moe.top_k = top_k;
  moe.expert_intermediate_size = 10;
  return moe;
}

/// The layer written as loops over tokens and choices with plain operations, and
/// its own leaves: what the sharded, sorted and grouped one is compared with.
class ReferenceMoe {
 public:
  ReferenceMoe(const SampleMoe& moe, const MoeConfig& config, Ffn ffn)
      : config_(config), ffn_(ffn) {
    for (const PlacedPart& placed : moe.store.parts()) {
      leaves_[placed.part.name.substr(4)] =
          moe.store.weight_of(placed).detach().clone().set_requires_grad(true);
    }
  }

  const std::map<std::string, at::Tensor>& leaves() const { return leaves_; }

  /// Softmax or sigmoid top-k routing; pairs that are not kept add nothing.
  at::Tensor forward(const at::Tensor& x_TD, const at::Tensor& kept_TK) const {
    const at::Tensor logits_TE = at::matmul(x_TD, leaves_.at("gate.weight").t());
    const at::Tensor scores_TE =
        config_.router.score == "sigmoid" ? at::sigmoid(logits_TE) : at::softmax(logits_TE, 1);
    auto [weights_TK, experts_TK] = scores_TE.topk(config_.top_k, 1);
    if (config_.router.normalize && config_.router.type == "topk") {
      weights_TK = weights_TK / weights_TK.sum(1, /*keepdim=*/true);
    }
    weights_TK = weights_TK * config_.router.scaling_factor;
    std::vector<at::Tensor> rows;
    for (int64_t t = 0; t < x_TD.size(0); ++t) {
      at::Tensor y_D = at::zeros_like(x_TD[t]);
      for (int64_t k = 0; k < config_.top_k; ++k) {
        if (!kept_TK[t][k].item<bool>()) continue;
        const std::string expert = "experts." + std::to_string(experts_TK[t][k].item<int64_t>());
        y_D = y_D + weights_TK[t][k] * feed_forward(x_TD[t], expert);
      }
      if (config_.shared_experts.num > 0) y_D = y_D + shared(x_TD[t]);
      rows.push_back(y_D);
    }
    return rows.empty() ? x_TD * 0 : at::stack(rows);
  }

 private:
  at::Tensor feed_forward(const at::Tensor& x_D, const std::string& name) const {
    const auto product = [&](const char* which, const at::Tensor& in) {
      return at::matmul(leaves_.at(name + "." + which + "_proj.weight"), in);
    };
    const at::Tensor up = product("up", x_D);
    at::Tensor hidden;
    if (ffn_ == Ffn::kSwiGlu) hidden = at::silu(product("gate", x_D)) * up;
    if (ffn_ == Ffn::kGeGlu) hidden = at::gelu(product("gate", x_D)) * up;
    if (ffn_ == Ffn::kGelu) hidden = at::gelu(up);
    if (ffn_ == Ffn::kRelu) hidden = at::relu(up);
    return product("down", hidden);
  }

  at::Tensor shared(const at::Tensor& x_D) const {
    const at::Tensor y_D = feed_forward(x_D, "shared_expert");
    if (!config_.shared_experts.gated) return y_D;
    return at::sigmoid(at::matmul(leaves_.at("shared_expert_gate.weight"), x_D)) * y_D;
  }

  MoeConfig config_;
  Ffn ffn_;
  std::map<std::string, at::Tensor> leaves_;
};

}  // namespace switchyard
