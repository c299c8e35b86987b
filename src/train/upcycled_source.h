#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <unordered_map>
#include <vector>

#include "checkpoint/tensor_source.h"
#include "config/run_config.h"
#include "moe/upcycling.h"

namespace switchyard {

/// Whether AdamW's moments come along.
enum class OptimizerState { kDrop, kCarry };

/// Dense models seen as the mixture of experts that is made of them (moe/upcycling.h), each
/// tensor made when it is read: no more than one dense tensor and what becomes of it are in
/// memory, and whoever reads a tensor gets the same bytes. Per MoE layer:
///
///   experts.e.*_proj.weight      of branch (e / G) mod n (Sukhbaatar et al.,
///                                arXiv:2403.07816), by the recipe
///   gate.weight                  a new router, in the dtype of the layer's gate_proj (or
///                                up_proj)
///   shared_expert.*_proj.weight  the trunk's feed-forward. Ungated, its down-projection is
///                                halved; gated, it is byte for byte the trunk's and
///   shared_expert_gate.weight    is zero, so that it counts sigmoid(0) = 1/2. The routed
///                                experts' down-projections are scaled to give the other
///                                half (ExpertRecipe::share), so routed + shared = dense
///                                wherever routed alone would be
///   gate.e_score_correction_bias zero, with router.selection_bias
///
/// Every other tensor is the trunk's. Weights keep their stored dtype; where the source has
/// NAME.master all that is made is made in it, and NAME is it rounded. With kCarry the
/// moments come too: expert_moment for experts, zero for router and shared gate, the
/// trunk's for the rest (the halved shared down-projection's by the chain rule, as there).
/// Counts and other state of the dense run are left behind.
class UpcycledSource : public TensorSource {
 public:
  /// `trunk` is what does not become experts, `branches` where those come from: one dense
  /// model, which is the trunk as well, or several and their mean. They outlive this and
  /// are dense models of `model`; `moe` is the result's, in keeping with the recipe.
  /// Throws DataError when a tensor is missing or of another shape than `model` says.
  UpcycledSource(TensorSource& trunk, std::vector<TensorSource*> branches, const ModelConfig& model,
                 const MoeConfig& moe, const ExpertRecipe& recipe, double router_std,
                 OptimizerState state);

  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  using TensorSource::read;
  void read(const TensorInfo& tensor, Interval range, void* out) override;
  const std::string& path() const override { return trunk_.path(); }

 private:
  /// How a tensor is made.
  struct Origin {
    enum class Kind { kTrunk, kExpert, kShared, kRouter, kZero } kind = Kind::kTrunk;
    std::string dense = {};   // the dense weights that it comes from, or whose dtype it takes
    std::string key = {};     // what draws are keyed by: the expert's or the router's name
    std::string suffix = {};  // "", ".master", ".exp_avg", ".exp_avg_sq"
    Projection projection = Projection::kGate;
    int64_t expert = 0;
  };

  void add_layer(int64_t layer, const ModelConfig& model, const MoeConfig& moe);
  void add_projection(const std::string& mlp, Projection projection, const ModelConfig& model,
                      const MoeConfig& moe);
  void add_router(const std::string& mlp, const ModelConfig& model, const MoeConfig& moe);
  void add_all_suffixes(const std::string& name, std::vector<int64_t> shape, const char* kind,
                        const Origin& origin);
  void add(const TensorInfo& tensor, Origin origin);

  TensorSource& branch_of(int64_t expert);
  at::Tensor make(const TensorInfo& tensor, const Origin& origin);
  at::Tensor make_expert(const Origin& origin);
  at::Tensor make_shared(const Origin& origin);

  TensorSource& trunk_;
  std::vector<TensorSource*> branches_;
  ExpertRecipe recipe_;
  double router_std_;
  OptimizerState state_;
  bool shared_is_halved_ = false;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string, Origin> origins_;

  std::string made_name_;  // the tensor that was made last, for who reads it in pieces
  at::Tensor made_;
};

}  // namespace switchyard
