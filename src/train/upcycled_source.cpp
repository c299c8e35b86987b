#include "train/upcycled_source.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "config/load_config.h"
#include "train/averaged_source.h"

// F inner width of the dense feed-forward, D model width, E experts.

namespace switchyard {
namespace {

using at::Tensor;

constexpr const char* kMaster = ".master";

const char* weight_name(Projection projection) {
  switch (projection) {
    case Projection::kGate:
      return "gate_proj.weight";
    case Projection::kUp:
      return "up_proj.weight";
    case Projection::kDown:
      break;
  }
  return "down_proj.weight";
}

std::vector<Projection> projections_of(const ExpertRecipe& recipe) {
  if (recipe.gated) return {Projection::kGate, Projection::kUp, Projection::kDown};
  return {Projection::kUp, Projection::kDown};
}

std::vector<int64_t> projection_shape(Projection projection, int64_t F, int64_t D) {
  return projection == Projection::kDown ? std::vector{D, F} : std::vector{F, D};
}

int power_of(const std::string& suffix) { return suffix == ".exp_avg" ? 1 : 2; }
bool is_moment(const std::string& suffix) { return suffix.starts_with(".exp_avg"); }

std::string mlp_of(int64_t layer) { return "model.layers." + std::to_string(layer) + ".mlp."; }

/// Whether the name is a tensor of one of the layers' feed-forward.
bool is_replaced(const std::string& name, const std::vector<int64_t>& layers) {
  return std::ranges::any_of(layers,
                             [&](int64_t layer) { return name.starts_with(mlp_of(layer)); });
}

}  // namespace

UpcycledSource::UpcycledSource(TensorSource& trunk, std::vector<TensorSource*> branches,
                               const ModelConfig& model, const MoeConfig& moe,
                               const ExpertRecipe& recipe, double router_std, OptimizerState state)
    : trunk_(trunk),
      branches_(std::move(branches)),
      recipe_(recipe),
      router_std_(router_std),
      state_(state),
      shared_is_halved_(moe.shared_experts.num > 0 && !moe.shared_experts.gated) {
  const std::vector<int64_t> layers = moe_layer_indices(moe, model.num_hidden_layers);
  for (const TensorInfo& tensor : trunk_.tensors()) {
    if (!is_weight(tensor) || is_replaced(tensor.name, layers)) continue;
    add_all_suffixes(tensor.name, tensor.shape, tensor.kind.c_str(),
                     {Origin::Kind::kTrunk, tensor.name});
  }
  for (const int64_t layer : layers) add_layer(layer, model, moe);
  std::ranges::sort(tensors_, {}, &TensorInfo::name);
}

void UpcycledSource::add_layer(int64_t layer, const ModelConfig& model, const MoeConfig& moe) {
  const std::string mlp = mlp_of(layer);
  for (const Projection projection : projections_of(recipe_)) {
    add_projection(mlp, projection, model, moe);
  }
  add_router(mlp, model, moe);
}

void UpcycledSource::add_projection(const std::string& mlp, Projection projection,
                                    const ModelConfig& model, const MoeConfig& moe) {
  const int64_t D = model.hidden_size, F = model.intermediate_size;
  const char* weight = weight_name(projection);
  const std::string dense = mlp + weight;
  for (TensorSource* branch : branches_) {
    if (branch->at(dense).shape == projection_shape(projection, F, D)) continue;
    throw DataError(branch->path() + ": \"" + dense + "\" has another shape than the model's");
  }
  for (int64_t e = 0; e < recipe_.num_experts; ++e) {
    const std::string expert = mlp + "experts." + std::to_string(e);
    add_all_suffixes(expert + "." + weight,
                     projection_shape(projection, F / recipe_.granularity, D), "expert",
                     {Origin::Kind::kExpert, dense, expert, "", projection, e});
  }
  if (moe.shared_experts.num == 0) return;
  add_all_suffixes(mlp + "shared_expert." + weight, projection_shape(projection, F, D), "dense",
                   {Origin::Kind::kShared, dense, "", "", projection});
}

void UpcycledSource::add_router(const std::string& mlp, const ModelConfig& model,
                                const MoeConfig& moe) {
  const int64_t D = model.hidden_size, E = moe.num_experts;
  const std::string like = mlp + weight_name(projections_of(recipe_).front());
  add_all_suffixes(mlp + "gate.weight", {E, D}, "dense",
                   {Origin::Kind::kRouter, like, mlp + "gate.weight"});
  if (moe.shared_experts.gated) {
    add_all_suffixes(mlp + "shared_expert_gate.weight", {1, D}, "dense",
                     {Origin::Kind::kZero, like});
  }
  if (moe.router.selection_bias) {
    add({mlp + "gate.e_score_correction_bias", {E}, "F32", "state"}, {Origin::Kind::kZero, like});
  }
}

/// The weights and what belongs to them, as far as the dense weights have it.
void UpcycledSource::add_all_suffixes(const std::string& name, std::vector<int64_t> shape,
                                      const char* kind, const Origin& origin) {
  for (const char* suffix : {"", kMaster, ".exp_avg", ".exp_avg_sq"}) {
    if (is_moment(suffix) && state_ == OptimizerState::kDrop) continue;
    // What the trunk knows in float32 decides, so that the branches' experts are alike.
    if (!trunk_.has(origin.dense + suffix)) continue;
    Origin here = origin;
    here.suffix = suffix;
    add({name + suffix, shape, trunk_.at(origin.dense + suffix).dtype, kind}, here);
  }
}

void UpcycledSource::add(const TensorInfo& tensor, Origin origin) {
  tensors_.push_back(tensor);
  origins_.emplace(tensor.name, std::move(origin));
}

TensorSource& UpcycledSource::branch_of(int64_t expert) {
  const int64_t group = expert / recipe_.granularity;
  return *branches_[static_cast<size_t>(group) % branches_.size()];
}

void UpcycledSource::read(const TensorInfo& tensor, Interval range, void* out) {
  const Origin& origin = origins_.at(tensor.name);
  if (origin.kind == Origin::Kind::kTrunk) {
    trunk_.read(trunk_.at(tensor.name), range, out);
    return;
  }
  if (made_name_ != tensor.name) {
    made_ = make(tensor, origin).to(scalar_type(tensor.dtype)).contiguous();
    made_name_ = tensor.name;
  }
  const auto element_bytes = static_cast<int64_t>(made_.element_size());
  std::memcpy(out, static_cast<const char*>(made_.data_ptr()) + range.begin * element_bytes,
              static_cast<size_t>(range.size() * element_bytes));
}

Tensor UpcycledSource::make(const TensorInfo& tensor, const Origin& origin) {
  switch (origin.kind) {
    case Origin::Kind::kExpert:
      return make_expert(origin);
    case Origin::Kind::kShared:
      return make_shared(origin);
    case Origin::Kind::kRouter:
      if (is_moment(origin.suffix)) break;
      return new_router(recipe_, origin.key, tensor.shape[1], router_std_);
    case Origin::Kind::kZero:
    case Origin::Kind::kTrunk:
      break;
  }
  return at::zeros(tensor.shape, at::kFloat);
}

Tensor UpcycledSource::make_expert(const Origin& origin) {
  TensorSource& branch = branch_of(origin.expert);
  if (is_moment(origin.suffix)) {
    return expert_moment(recipe_, origin.key, origin.expert, origin.projection,
                         power_of(origin.suffix), branch.read(origin.dense + origin.suffix));
  }
  const std::string stored = best_name(branch, origin.dense);
  if (is_plain_copy(recipe_, origin.projection)) return branch.read(stored);
  return expert_projection(recipe_, origin.key, origin.expert, origin.projection,
                           branch.read(stored));
}

Tensor UpcycledSource::make_shared(const Origin& origin) {
  const bool moment = is_moment(origin.suffix);
  Tensor values =
      trunk_.read(moment ? origin.dense + origin.suffix : best_name(trunk_, origin.dense));
  if (!shared_is_halved_ || origin.projection != Projection::kDown) return values;
  return values.mul_(moment ? std::pow(2.0, power_of(origin.suffix)) : 0.5);
}

}  // namespace switchyard
