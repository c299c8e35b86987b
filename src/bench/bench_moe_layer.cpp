#include "bench/bench_moe_layer.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <memory>

#include "bench/bench_padding.h"
#include "config/load_config.h"
#include "moe/feed_forward.h"
#include "moe/moe_layer.h"
#include "moe/router_losses.h"

// T tokens of this rank, D hidden, F width of an expert, E experts, K experts per token.

namespace switchyard {
namespace {

using at::Tensor;

const char* name_of(at::ScalarType dtype) { return dtype == at::kFloat ? "fp32" : "bf16"; }

ModelConfig model_of(const LayerCase& layer) {
  ModelConfig model;
  model.hidden_size = layer.hidden;
  resolve_autos(model);
  return model;
}

MoeConfig moe_of(const LayerCase& layer) {
  MoeConfig moe;
  moe.num_experts = layer.experts;
  moe.top_k = layer.top_k;
  moe.expert_intermediate_size = layer.width;
  return moe;
}

/// Parameters of a module of its own.
template <class Module>
struct Alone {
  ParameterStore store;
  Module module;

  template <class... Arguments>
  Alone(const Mesh& mesh, at::ScalarType dtype, c10::Device device, const Arguments&... arguments)
      : module(store, arguments...) {
    ParameterStore::Options options;
    options.dtype = dtype;
    options.device = device;
    store.allocate(mesh, options);
  }
};

/// One sequence of T tokens.
TokenContext context_of(const LayerCase& layer, c10::Device device) {
  TokenContext context;
  context.device = device;
  context.tokens_per_sequence = context.tokens_per_group = layer.tokens;
  context.order_B = at::zeros({1}, at::kLong);
  context.tokens_T = at::zeros({layer.tokens}, at::TensorOptions(device).dtype(at::kLong));
  return context;
}

/// Multiplications and additions of forward and backward, on the mean rank.
struct Flops {
  double dense, moe;  // the layer's are the dense ones and its router's
};

Flops flops_of(const LayerCase& layer) {
  const auto T = static_cast<double>(layer.tokens), D = static_cast<double>(layer.hidden);
  const double dense = 6 * T * 3 * D * static_cast<double>(layer.top_k * layer.width);
  return {dense, dense + 6 * T * D * static_cast<double>(layer.experts)};
}

double max_over_mean(const std::vector<int64_t>& rows_E) {
  double sum = 0;
  for (const int64_t rows : rows_E) sum += static_cast<double>(rows);
  return static_cast<double>(*std::ranges::max_element(rows_E)) *
         static_cast<double>(rows_E.size()) / std::max(sum, 1.0);
}

class LayerComparison {
 public:
  LayerComparison(const Mesh& mesh, const LayerCase& layer, at::ScalarType dtype,
                  c10::Device device)
      : mesh_(mesh),
        layer_(layer),
        dtype_(dtype),
        moe_config_(moe_of(layer)),
        moe_(mesh, dtype, device, "mlp", model_of(layer), moe_config_, /*layer=*/0, mesh,
             Recompute::kNone, device),
        dense_(mesh, dtype, device, "mlp", layer.hidden, layer.top_k * layer.width, Ffn::kSwiGlu,
               0.02),
        context_(context_of(layer, device)),
        x_TD_(at::randn({layer.tokens, layer.hidden}).to(dtype).to(device).set_requires_grad(true)),
        dy_TD_(at::randn({layer.tokens, layer.hidden}).to(dtype).to(device)) {}

  /// Choices of each expert by this rank's tokens, before drops.
  std::vector<int64_t> rows_E() const {
    const Tensor counts = moe_.module.forward(x_TD_, context_).record.counts.all_GE.sum(/*dim=*/0);
    const Tensor rows = counts.to(at::kLong).cpu();
    return {rows.data_ptr<int64_t>(), rows.data_ptr<int64_t>() + rows.numel()};
  }

  Tensor experts_TK() const { return moe_.module.forward(x_TD_, context_).record.experts_TK; }

  nlohmann::json measure(const Rounds& rounds) {
    const std::vector<Samples> samples =
        time_in_turn(*mesh_.world, rounds, {[this] { run_dense(); }, [this] { run_moe(); }});
    const Flops flops = flops_of(layer_);
    const int world = mesh_.world->size();
    nlohmann::json row = {
        {"experts", layer_.experts},
        {"top_k", layer_.top_k},
        {"hidden", layer_.hidden},
        {"width", layer_.width},
        {"tokens", layer_.tokens},
        {"rows_per_expert", layer_.tokens * layer_.top_k * mesh_.expert_size() / layer_.experts},
        {"precision", name_of(dtype_)},
        {"dense_flops", flops.dense},
        {"moe_flops", flops.moe},
        {"max_load", max_over_mean(rows_E())}};
    put_times(row, "dense", samples[0]);
    put_times(row, "moe", samples[1]);
    row["ratio"] = samples[1].median() / samples[0].median();
    row["dense_gflops"] = world * flops.dense / samples[0].median() / 1e9;
    row["moe_gflops"] = world * flops.moe / samples[1].median() / 1e9;
    return row;
  }

 private:
  void run_dense() {
    torch::autograd::backward({dense_.module.forward(x_TD_)}, {dy_TD_});
    x_TD_.mutable_grad().reset();
  }

  void run_moe() {
    const MoeOutput output = moe_.module.forward(x_TD_, context_);
    const RouterLosses losses =
        router_losses({output.record}, moe_config_, BalanceCounts{},
                      static_cast<double>(layer_.tokens * mesh_.world->size()));
    torch::autograd::backward({output.y_TD, losses.objective},
                              {dy_TD_, at::ones_like(losses.objective)});
    x_TD_.mutable_grad().reset();
  }

  const Mesh& mesh_;
  LayerCase layer_;
  at::ScalarType dtype_;
  MoeConfig moe_config_;
  Alone<MoeLayer> moe_;
  Alone<FeedForward> dense_;
  TokenContext context_;
  Tensor x_TD_, dy_TD_;
};

}  // namespace

std::vector<LayerCase> layer_cases(const std::optional<RunConfig>& config) {
  if (config) {
    return {{config->model.hidden_size, config->moe.expert_intermediate_size,
             config->moe.num_experts, config->moe.top_k,
             config->train.micro_batch_size * config->data.sequence_length}};
  }
  std::vector<LayerCase> cases;
  const auto add = [&cases](int64_t experts, int64_t tokens) {
    LayerCase layer;
    layer.experts = experts;
    layer.tokens = tokens;
    layer.padding = tokens == LayerCase{}.tokens && (experts == 8 || experts == 64);
    cases.push_back(layer);
  };
  for (const int64_t experts : {8, 16, 32, 64, 128}) add(experts, 4096);
  add(128, 8192);  // 128 rows per expert on one rank
  add(64, 2048);   // 64
  add(64, 1024);   // 32
  return cases;
}

nlohmann::json bench_moe_layer(const Mesh& mesh, const std::vector<LayerCase>& cases,
                               const Rounds& rounds, const LayerListener& tell) {
  struct Routed {
    const LayerCase& layer;
    at::ScalarType dtype;
    Tensor experts_TK;
  };
  nlohmann::json result = described("moe-layer", *mesh.world);
  result["results"] = result["padding"] = nlohmann::json::array();
  std::vector<Routed> to_pad;
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    for (const LayerCase& layer : cases) {
      LayerComparison comparison(mesh, layer, dtype, rounds.device);
      result["results"].push_back(comparison.measure(rounds));
      tell.result(result["results"].back());
      if (layer.padding && rounds.device.is_cpu())
        to_pad.push_back({layer, dtype, comparison.experts_TK()});
    }
  }
  for (const auto& [layer, dtype, experts_TK] : to_pad) {
    result["padding"].push_back(bench_padding(*mesh.world, layer, dtype, experts_TK, rounds));
    tell.padding(result["padding"].back());
  }
  return result;
}

}  // namespace switchyard
