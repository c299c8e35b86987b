#include "bench/bench_padding.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>

#include "distributed/solo_communicator.h"
#include "moe/experts.h"
#include "ops/permute.h"

// T tokens, K experts per token, E experts, R rows with padding, D hidden, F width.

namespace switchyard {
namespace {

using at::Tensor;

/// Where the pairs of a routing go when expert e has space_E[e] rows; pairs over that are
/// dropped, the later tokens'.
struct Placement {
  std::vector<int64_t> space_E;
  RowMap map;
  int64_t dropped = 0;
};

Placement place(const Tensor& experts_TK, std::vector<int64_t> space_E) {
  std::vector<int64_t> begin(space_E.size() + 1, 0);
  for (size_t e = 0; e < space_E.size(); ++e) begin[e + 1] = begin[e] + space_E[e];
  Placement placed{
      std::move(space_E),
      {at::full({begin.back()}, -1, at::kLong), at::full(experts_TK.sizes(), -1, at::kLong)}};
  std::vector<int64_t> next(begin.begin(), begin.end() - 1);
  const int64_t* expert = experts_TK.data_ptr<int64_t>();
  int64_t *pair_of = placed.map.pair_S.data_ptr<int64_t>(),
          *slot_of = placed.map.slot_TK.data_ptr<int64_t>();
  for (int64_t pair = 0; pair < experts_TK.numel(); ++pair) {
    const int64_t e = expert[pair];
    if (next[e] == begin[e + 1]) {
      placed.dropped += 1;
      continue;
    }
    pair_of[next[e]] = pair;
    slot_of[pair] = next[e]++;
  }
  return placed;
}

class Padding {
 public:
  Padding(const LayerCase& layer, at::ScalarType dtype, const Tensor& experts_TK)
      : layer_(layer),
        mesh_{make_solo_communicator("world"), make_solo_communicator("expert parallel"),
              make_solo_communicator("expert data parallel")},
        experts_(store_, "mlp", 0, layer.experts, layer.hidden, layer.width, Ffn::kSwiGlu, {}),
        experts_TK_(experts_TK),
        weights_TK_(at::full(experts_TK.sizes(), 1.0 / static_cast<double>(layer.top_k))),
        x_TD_(at::randn({layer.tokens, layer.hidden}).to(dtype).set_requires_grad(true)),
        dy_TD_(at::randn({layer.tokens, layer.hidden}).to(dtype)) {
    ParameterStore::Options options;
    options.dtype = dtype;
    store_.allocate(mesh_, options);
    const auto leaf = [&](std::vector<int64_t> shape) {
      return (at::randn(shape) * 0.02).to(dtype).set_requires_grad(true);
    };
    in_EDF_ = leaf({layer.experts, layer.hidden, 2 * layer.width});
    down_EFD_ = leaf({layer.experts, layer.width, layer.hidden});
  }

  std::vector<int64_t> rows_E() const {
    const Tensor rows = at::bincount(experts_TK_.flatten(), {}, layer_.experts);
    return {rows.data_ptr<int64_t>(), rows.data_ptr<int64_t>() + rows.numel()};
  }

  const Tensor& experts_TK() const { return experts_TK_; }

  /// The experts as the layer computes them.
  void run_grouped(const Placement& placed) {
    backward(experts_.forward(gather_tokens(x_TD_, placed.map), placed.space_E), placed);
  }

  /// As layers with a capacity do: one batched product, every expert the same rows.
  void run_batched(const Placement& placed) {
    const Tensor x_ECD = gather_tokens(x_TD_, placed.map).view({layer_.experts, -1, layer_.hidden});
    const std::vector<Tensor> gate_up = at::bmm(x_ECD, in_EDF_).chunk(2, /*dim=*/-1);
    const Tensor y_ECD = at::bmm(at::silu(gate_up[0]) * gate_up[1], down_EFD_);
    backward(y_ECD.view({-1, layer_.hidden}), placed);
  }

 private:
  void backward(const Tensor& y_RD, const Placement& placed) {
    torch::autograd::backward({combine_tokens(y_RD, weights_TK_, placed.map)}, {dy_TD_});
    x_TD_.mutable_grad().reset();
  }

  LayerCase layer_;
  Mesh mesh_;
  ParameterStore store_;
  Experts experts_;
  Tensor experts_TK_, weights_TK_, x_TD_, dy_TD_, in_EDF_, down_EFD_;
};

std::string capacity_name(double factor) {
  const auto hundredths = static_cast<int>(std::lround(100 * factor));
  const std::string fraction = std::to_string(hundredths % 100);
  return "capacity_" + std::to_string(hundredths / 100) + "." + (fraction == "0" ? "0" : fraction);
}

}  // namespace

nlohmann::json bench_padding(Communicator& world, const LayerCase& layer, at::ScalarType dtype,
                             const Tensor& experts_TK, const Rounds& rounds) {
  Padding padding(layer, dtype, experts_TK.contiguous());
  const std::vector<int64_t> rows_E = padding.rows_E();
  const int64_t fullest = *std::ranges::max_element(rows_E);
  std::vector<std::string> names = {"dropless"};
  std::vector<Placement> placements = {place(padding.experts_TK(), rows_E)};
  std::vector<bool> batched = {false};
  const auto add = [&](const std::string& name, int64_t rows) {
    for (const bool in_one : {true, false}) {
      const std::vector<int64_t> space_E(layer.experts, rows);
      names.push_back(in_one ? name : name + "_grouped");
      placements.push_back(place(padding.experts_TK(), space_E));
      batched.push_back(in_one);
    }
  };
  add("padded", fullest);
  for (const double factor : {1.0, 1.25, 2.0}) {
    const double mean =
        static_cast<double>(layer.tokens * layer.top_k) / static_cast<double>(layer.experts);
    add(capacity_name(factor), std::max<int64_t>(1, std::llround(std::ceil(factor * mean))));
  }

  std::vector<std::function<void()>> bodies;
  for (size_t i = 0; i < names.size(); ++i) {
    bodies.emplace_back([&padding, &placed = placements[i], in_one = batched[i]] {
      in_one ? padding.run_batched(placed) : padding.run_grouped(placed);
    });
  }
  const std::vector<Samples> samples = time_in_turn(world, rounds, bodies);
  const auto pairs = static_cast<double>(experts_TK.numel());
  nlohmann::json entry = {
      {"experts", layer.experts},
      {"tokens", layer.tokens},
      {"precision", dtype == at::kFloat ? "fp32" : "bf16"},
      {"max_load", static_cast<double>(fullest) * static_cast<double>(layer.experts) / pairs}};
  for (size_t i = 0; i < names.size(); ++i) {
    nlohmann::json row = {{"name", names[i]},
                          {"rows", placements[i].map.pair_S.numel()},
                          {"dropped", static_cast<double>(placements[i].dropped) / pairs},
                          {"over_dropless", samples[i].median() / samples[0].median()}};
    put_times(row, "layer", samples[i]);
    entry["ways"].push_back(row);
  }
  return entry;
}

}  // namespace switchyard
