#pragma once

#include <ATen/ATen.h>

#include <string>
#include <utility>
#include <vector>

#include "distributed/solo_communicator.h"
#include "optim/parameter_store.h"
#include "support/tensors.h"

namespace switchyard {

/// The mesh of a world of one, for the unsharded model that others are compared with.
inline Mesh solo_mesh() {
  return {make_solo_communicator("world"), make_solo_communicator("expert parallel"),
          make_solo_communicator("expert data parallel")};
}

/// Sizes of a model whose buffers need padding on 2 and on 4 ranks, and of one
/// whose buffers need none.
struct SampleSizes {
  int64_t D, F, experts;
  int64_t dense() const { return 7 * D + D + 8 * D; }
  int64_t expert() const { return experts * 3 * D * F; }
};
inline constexpr SampleSizes kOdd{3, 5, 4}, kEven{4, 6, 4};

/// The parameters of a one-layer model, no arithmetic: an embedding, a norm, a fused
/// q, k, v projection, and this rank's share of the experts, gate and up in one leaf.
struct SampleModel {
  ParameterStore store;
  at::Tensor embedding, norm, qkv, gate_up, down;

  SampleModel(const Mesh& mesh, const ParameterStore::Options& options, SampleSizes sizes = kOdd) {
    const auto [D, F, experts] = sizes;
    const std::string layer = "model.layers.0.";
    const auto part = [&](const std::string& name, std::vector<int64_t> shape) {
      return NamedPart{layer + name + ".weight", std::move(shape), {}};
    };
    embedding = store.add(ParameterKind::kDense, {"model.embed_tokens.weight", {7, D}, {}});
    NamedPart norm_part = part("input_layernorm", {D});
    norm_part.init.type = Init::Type::kOnes;
    norm = store.add(ParameterKind::kDense, norm_part);
    qkv = store.add(ParameterKind::kDense, {8, D},
                    {part("q_proj", {4, D}), part("k_proj", {2, D}), part("v_proj", {2, D})});
    const int64_t share = experts / mesh.expert_size(), first = mesh.expert_rank() * share;
    std::vector<NamedPart> gate_up_parts, down_parts;
    for (int64_t e = first; e < first + share; ++e) {
      const std::string expert = "mlp.experts." + std::to_string(e);
      gate_up_parts.push_back(part(expert + ".gate_proj", {F, D}));
      gate_up_parts.push_back(part(expert + ".up_proj", {F, D}));
      down_parts.push_back(part(expert + ".down_proj", {D, F}));
    }
    gate_up = store.add(ParameterKind::kExpert, {share, 2 * F, D}, gate_up_parts);
    down = store.add(ParameterKind::kExpert, {share, D, F}, down_parts);
    store.allocate(mesh, options);
  }

  const PlacedPart& named(const std::string& name) const {
    for (const PlacedPart& placed : store.parts()) {
      if (placed.part.name == name) return placed;
    }
    throw std::out_of_range(name);
  }

  /// A model of the same names holds the same bits; `what` is told when not.
  testing::AssertionResult weights_equal(const SampleModel& whole) const {
    for (const PlacedPart& placed : store.parts()) {
      const testing::AssertionResult result =
          same(store.weight_of(placed), whole.store.weight_of(whole.named(placed.part.name)));
      if (!result) return testing::AssertionFailure() << placed.part.name << result.message();
    }
    return testing::AssertionSuccess();
  }
};

}  // namespace switchyard
