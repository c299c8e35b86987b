#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "base/random.h"
#include "config/load_config.h"
#include "train/model_source.h"

namespace switchyard {

/// Tensors in memory.
class MapSource : public TensorSource {
 public:
  explicit MapSource(std::string path = "memory") : path_(std::move(path)) {}

  void set(const std::string& name, const at::Tensor& values, const char* kind = "dense") {
    const bool is_new = !values_.contains(name);
    values_[name] = values.contiguous();
    if (!is_new) return;
    tensors_.push_back({name, values.sizes().vec(), dtype_name(values.scalar_type()), kind});
    std::ranges::sort(tensors_, {}, &TensorInfo::name);
  }
  at::Tensor& operator[](const std::string& name) { return values_.at(name); }

  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  using TensorSource::read;
  void read(const TensorInfo& tensor, Interval range, void* out) override {
    const at::Tensor part = values_.at(tensor.name).flatten().narrow(0, range.begin, range.size());
    std::memcpy(out, part.data_ptr(), part.nbytes());
  }
  const std::string& path() const override { return path_; }

 private:
  std::string path_;
  std::map<std::string, at::Tensor> values_;
  std::vector<TensorInfo> tensors_;
};

inline at::Tensor drawn(std::vector<int64_t> shape, const std::string& name, double std) {
  at::Tensor values = at::empty(shape, at::kFloat);
  const RandomStream stream(21, name);
  for (int64_t i = 0; i < values.numel(); ++i) {
    values.data_ptr<float>()[i] = static_cast<float>(std * stream.normal(static_cast<uint64_t>(i)));
  }
  return values;
}

inline ModelConfig dense_model() {
  ModelConfig model;
  model.vocab_size = 48;
  model.hidden_size = 16;
  model.num_hidden_layers = 3;
  model.num_attention_heads = 2;
  model.intermediate_size = 24;
  resolve_autos(model);
  return model;
}

/// A dense model with weights large enough for its logits to differ, in memory.
///
///   stored   of the weights; with kBFloat16 there is a float32 master too
///   branch   another one, another model
///   moments  whether AdamW's are there
struct DenseSettings {
  at::ScalarType stored = at::kFloat;
  std::string branch = {};
  bool moments = false;
  bool master = true;
};

inline void add_parameter(MapSource& source, const DenseSettings& settings, const std::string& name,
                          std::vector<int64_t> shape, double std) {
  const bool is_norm = shape.size() == 1;
  at::Tensor values = drawn(shape, settings.branch + name, is_norm ? 0.1 : std);
  if (is_norm) values.add_(1.0);
  source.set(name, values.to(settings.stored));
  if (settings.stored != at::kFloat && settings.master) source.set(name + ".master", values);
  if (!settings.moments) return;
  source.set(name + ".exp_avg", drawn(shape, settings.branch + name + "/m", 1e-3));
  source.set(name + ".exp_avg_sq", drawn(shape, settings.branch + name + "/v", 1e-6).abs());
}

inline ModelSource dense_source(const DenseSettings& settings = {},
                                const ModelConfig& model = dense_model()) {
  auto tensors = std::make_unique<MapSource>("dense" + settings.branch);
  const int64_t D = model.hidden_size, F = model.intermediate_size, V = model.vocab_size,
                Q = model.num_attention_heads * model.head_dim,
                KV = model.num_key_value_heads * model.head_dim;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape, double std = 0.4) {
    add_parameter(*tensors, settings, name, std::move(shape), std);
  };
  add("model.embed_tokens.weight", {V, D}, 1.0);
  add("lm_head.weight", {V, D});
  add("model.norm.weight", {D});
  for (int64_t layer = 0; layer < model.num_hidden_layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add(prefix + "input_layernorm.weight", {D});
    add(prefix + "post_attention_layernorm.weight", {D});
    add(prefix + "self_attn.q_proj.weight", {Q, D});
    add(prefix + "self_attn.k_proj.weight", {KV, D});
    add(prefix + "self_attn.v_proj.weight", {KV, D});
    add(prefix + "self_attn.o_proj.weight", {D, Q});
    add(prefix + "mlp.gate_proj.weight", {F, D});
    add(prefix + "mlp.up_proj.weight", {F, D});
    add(prefix + "mlp.down_proj.weight", {D, F});
  }
  ModelSource source;
  source.config.model = model;
  source.config.moe.layers = "none";
  source.config.train.precision = "fp32";
  source.state = {{"updates", 7}, {"tokens", 700}, {"data_fingerprint", "abc"}};
  source.step = 7;
  source.tensors = std::move(tensors);
  return source;
}

inline std::vector<ModelSource> one(ModelSource source) {
  std::vector<ModelSource> sources;
  sources.push_back(std::move(source));
  return sources;
}

}  // namespace switchyard
