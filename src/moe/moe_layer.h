#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>

#include "config/run_config.h"
#include "distributed/mesh.h"
#include "moe/dispatcher.h"
#include "moe/experts.h"
#include "moe/feed_forward.h"
#include "moe/router.h"

namespace switchyard {

struct MoeOutput {
  at::Tensor y_TD;
  RouterRecord record;
};

/// A sparse feed-forward layer (Shazeer et al., arXiv:1701.06538 eq. 1):
///
///   y = sum over chosen experts i of w_i * expert_i(x)   [+ shared experts(x)]
///
/// with experts sharded over the mesh's expert group. A token whose every choice
/// was dropped gets zero: the residual carries it.
///
/// Parameters under PREFIX (model.layers.L.mlp): the router's (most have gate.weight
/// (E, D)), those of Experts, and with shared experts shared_expert.{gate,up,down}_proj.weight (one
/// network of width num * intermediate_size) and, gated, shared_expert_gate.weight
/// (1, D): sigmoid(g x) scales it, as in Qwen2-MoE.
class MoeLayer {
 public:
  /// `mesh` must outlive the layer. `device` is where its parameters will be and its state is.
  MoeLayer(ParameterStore& store, const std::string& prefix, const ModelConfig& model,
           const MoeConfig& moe, int64_t layer, const Mesh& mesh,
           Recompute recompute = Recompute::kNone, c10::Device device = at::kCPU);

  /// x_TD (T, D). Collective over the expert group, with zero tokens too. Routes and counts once,
  /// whatever is recomputed: with Recompute::kLayer backward exchanges rows again as they were
  /// counted, and is so collective twice more.
  MoeOutput forward(const at::Tensor& x_TD, const TokenContext& context) const;

  /// State of the run by name, PREFIX included: the router's, and, where some entry of
  /// moe.balance is adaptive, balance_coef (N). Float32, equal on all ranks.
  NamedState state() const;

  /// Moves the state on, once per optimizer step: the router's, and an adaptive
  /// coefficient a towards min(rate * dropped, max): a <- beta a + (1 - beta) of that
  /// (Skywork-MoE, arXiv:2406.06563 section 4.2), the starting value being `coef`. Local.
  void update_state(const RouterStep& step);

  const Router& router() const { return *router_; }
  const Experts& experts() const { return experts_; }
  /// Makes the router's state from the training data's token counts (V) int64. Local.
  void use_token_counts(const at::Tensor& counts_V);

 private:
  /// Where experts have dropout, the number (R) of each row that arrives; else undefined.
  /// Collective where there is dropout.
  at::Tensor dropout_ids(const Dispatched& sent, const TokenContext& context) const;
  /// y_TD of tokens that were routed: to the experts, there and back, and through the shared
  /// ones. `weights_TK`, `value_scale_TK` and `shared_T` as in Routing. Collective.
  at::Tensor output(const at::Tensor& x_TD, const at::Tensor& weights_TK,
                    const at::Tensor& value_scale_TK, const at::Tensor& shared_T,
                    const Dispatched& sent, const at::Tensor& ids_R, uint64_t seed) const;
  /// Of rows of this rank's experts; with `ids_R`, which number them, expert dropout inside:
  /// Switch Transformers section 2.4.
  at::Tensor expert_output(const at::Tensor& rows_RD, const std::vector<int64_t>& rows_L,
                           const at::Tensor& ids_R, uint64_t seed) const;
  /// `scale_T` (T) is the router's, or undefined: 1.
  at::Tensor shared_output(const at::Tensor& x_TD, const at::Tensor& scale_T) const;

  MoeConfig config_;
  Recompute recompute_;
  std::string prefix_;
  int64_t layer_;
  std::unique_ptr<Router> router_;
  RouterTensors router_tensors_;
  at::Tensor balance_coef_N_;  // undefined: no entry of moe.balance is adaptive
  Dispatcher dispatcher_;
  Experts experts_;
  std::optional<FeedForward> shared_;
  at::Tensor shared_gate_1D_;
};

}  // namespace switchyard
