#include "train/layer_probe.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "base/error.h"
#include "config/load_config.h"
#include "model/model_tensors.h"
#include "moe/moe_layer.h"
#include "moe/router_losses.h"

// T tokens, D model width, E experts, K experts per token.

namespace switchyard {
namespace {

using at::Tensor;

std::string prefix_of(int64_t layer) { return "model.layers." + std::to_string(layer) + ".mlp"; }

std::string shape_text(at::IntArrayRef shape) {
  std::string text;
  for (const int64_t size : shape) text += (text.empty() ? "(" : ", ") + std::to_string(size);
  return text.empty() ? "()" : text + ")";
}

void check_layer(const RunConfig& config, int64_t layer) {
  const std::vector<int64_t> layers = moe_layer_indices(config.moe, config.model.num_hidden_layers);
  if (std::ranges::find(layers, layer) != layers.end()) return;
  std::string all;
  for (const int64_t l : layers) all += (all.empty() ? "" : ", ") + std::to_string(l);
  throw ConfigError("--layer: " + std::to_string(layer) +
                    " is no MoE layer of this model; it has " + (all.empty() ? "none" : all));
}

/// An input of the given shape and dtype. Sizes below 0 may be any.
Tensor take(const NamedTensors& in, const std::string& name, const std::vector<int64_t>& shape,
            at::ScalarType dtype) {
  const auto found = in.find(name);
  if (found == in.end()) throw DataError("--input: no tensor \"" + name + "\"");
  const Tensor& x = found->second;
  bool fits = x.dim() == static_cast<int64_t>(shape.size());
  for (size_t i = 0; fits && i < shape.size(); ++i) fits = shape[i] < 0 || x.size(i) == shape[i];
  if (!fits) {
    throw DataError("--input: \"" + name + "\" has the shape " + shape_text(x.sizes()) +
                    " and should have " + shape_text(shape) + (shape[0] < 0 ? " (-1: any)" : ""));
  }
  return x.to(dtype);
}

/// The layer's own memory for each of its weights and its router's state, by name.
NamedTensors memory_of(ParameterStore& store, const MoeLayer& moe) {
  NamedTensors memory;
  for (const PlacedPart& placed : store.parts()) {
    memory[placed.part.name] = store.weight_of(placed);
  }
  for (const auto& [name, state] : moe.state()) memory[name] = state;
  return memory;
}

void set_weights(NamedTensors& memory, const NamedTensors& weights) {
  for (auto& [name, target] : memory) {
    if (!weights.contains(name)) continue;
    target.copy_(take(weights, name, target.sizes().vec(), at::kFloat));
  }
}

void refuse_unknown(const NamedTensors& memory, const NamedTensors& in) {
  for (const auto& [name, tensor] : in) {
    if (memory.contains(name) || name == "x" || name == "token_ids" || name == "domains" ||
        name == "grad_y") {
      continue;
    }
    throw DataError("--input: \"" + name + "\" is no tensor of this layer (" +
                    memory.begin()->first + ", ...), and none of x, token_ids, domains, grad_y");
  }
}

TokenContext context_of(const NamedTensors& in, int64_t T, Mode mode, int64_t seed) {
  TokenContext context;
  context.mode = mode;
  context.tokens_per_sequence = context.tokens_per_group = T;
  context.seed = static_cast<uint64_t>(seed);
  context.order_B = at::zeros({T == 0 ? 0 : 1}, at::kLong);
  context.tokens_T =
      in.contains("token_ids") ? take(in, "token_ids", {T}, at::kLong) : at::zeros({T}, at::kLong);
  context.previous_T = at::cat({at::full({1}, -1, at::kLong), context.tokens_T}).narrow(0, 0, T);
  if (in.contains("domains")) context.domains_T = take(in, "domains", {T}, at::kLong);
  return context;
}

Tensor losses_of(const RouterRecord& record, const RunConfig& config, int64_t T) {
  BalanceCounts counts;
  add_counts({record}, config.moe, counts.micro_batch);
  counts.global = counts.micro_batch;
  counts.lagged = uniform_counts(1, config.moe);
  const RouterLosses losses =
      router_losses({record}, config.moe, counts, static_cast<double>(std::max<int64_t>(T, 1)));
  return at::stack({losses.aux, losses.z}).to(at::kFloat);
}

}  // namespace

std::map<std::string, std::vector<int64_t>> layer_tensors(const RunConfig& config, int64_t layer) {
  check_layer(config, layer);
  std::map<std::string, std::vector<int64_t>> tensors;
  for (const ModelTensor& tensor : model_tensors(config.model, config.moe)) {
    if (tensor.name.starts_with(prefix_of(layer) + ".") || tensor.name.starts_with("model.router."))
      tensors[tensor.name] = tensor.shape;
  }
  return tensors;
}

NamedTensors probe_layer(const RunConfig& config, int64_t layer, Mode mode, const Mesh& mesh,
                         const NamedTensors& weights, const NamedTensors& in) {
  check_layer(config, layer);
  const Tensor x_TD = take(in, "x", {-1, config.model.hidden_size}, at::kFloat);
  const int64_t T = x_TD.size(0);
  ParameterStore store;
  const MoeLayer moe(store, prefix_of(layer), config.model, config.moe, layer, mesh);
  ParameterStore::Options options;
  options.seed = static_cast<uint64_t>(config.run.seed);
  store.allocate(mesh, options);
  NamedTensors memory = memory_of(store, moe);
  refuse_unknown(memory, in);
  {
    const c10::NoGradGuard no_grad;
    set_weights(memory, weights);
    set_weights(memory, in);
  }

  const bool with_gradients = in.contains("grad_y");
  x_TD.requires_grad_(with_gradients);
  const MoeOutput output = moe.forward(x_TD, context_of(in, T, mode, config.run.seed));
  const RouterRecord& record = output.record;
  NamedTensors out = {{"logits", record.logits_TE},
                      {"probs", record.probs_TE},
                      {"experts", record.experts_TK},
                      {"weights", record.weights_TK},
                      {"kept", record.kept_TK},
                      {"y", output.y_TD},
                      {"losses", losses_of(record, config, T)}};
  if (with_gradients) {
    const Tensor grad_y_TD = take(in, "grad_y", x_TD.sizes().vec(), at::kFloat);
    (output.y_TD * grad_y_TD).sum().backward();
    out["grad_x"] = x_TD.grad().defined() ? x_TD.grad() : at::zeros_like(x_TD);
    for (const PlacedPart& placed : store.parts()) {
      out["grad." + placed.part.name] = store.gradient_of(placed);
    }
  }
  for (auto& [name, tensor] : out) tensor = tensor.detach().contiguous();
  return out;
}

}  // namespace switchyard
