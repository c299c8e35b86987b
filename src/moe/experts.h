#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "ops/activation.h"
#include "ops/recompute.h"
#include "optim/parameter_store.h"

namespace switchyard {

/// How the experts of a layer start: with draws of their own, all alike (V-MoE,
/// arXiv:2106.05974), or with an output of zero (BASE, arXiv:2103.16716).
enum class ExpertStart { kIndependent, kIdentical, kZeroOutput };

/// From `moe.expert_init`.
ExpertStart parse_expert_start(const std::string& word);

/// Of inner activations (R, F), which it may see twice.
using InnerDropout = std::function<at::Tensor(const at::Tensor&)>;

struct InitialExperts {
  double std = 0.02;
  ExpertStart start = ExpertStart::kIndependent;
};

/// One matrix of every expert of this rank: row f of an expert is neuron f's weights.
struct ExpertMatrix {
  std::string name;  // "up_proj"
  at::Tensor x_LFD;
};

/// This rank's experts of one layer, as two stacks: each expert is the
/// feed-forward network of Shazeer (arXiv:2002.05202), down(act(gate x) * up x),
/// or down(act(up x)) without a gate.
///
/// Parameters, one per global expert e:
///   PREFIX.experts.e.{gate_proj,up_proj}.weight (F, D), PREFIX.experts.e.down_proj.weight (D, F)
class Experts {
 public:
  /// Registers experts [first, first + count) of the layer.
  Experts(ParameterStore& store, const std::string& prefix, int64_t first, int64_t count,
          int64_t hidden_size, int64_t intermediate_size, Ffn ffn, const InitialExperts& start,
          Recompute recompute = Recompute::kNone);

  /// x_RD (R, D) sorted by local expert, rows_L of each. `drop` is applied to the
  /// inner activations (R, F) where it is given: expert dropout. Returns (R, D). Where experts
  /// are recomputed, x_RD is what stays until backward, and `drop` is called once more by that.
  /// Local.
  at::Tensor forward(const at::Tensor& x_RD, const std::vector<int64_t>& rows_L,
                     const InnerDropout& drop = {}) const;

  /// ||E(x)||_2 of each expert for each token: x_TD (T, D) -> (T, L) float32. Computed in
  /// float64, so that equal experts have equal norms whatever the layout. No gradient. Local.
  at::Tensor output_norms(const at::Tensor& x_TD) const;

  /// The weights as (L, F, D) views, one row for each neuron: gate_proj where there is a
  /// gate, up_proj, down_proj.
  std::vector<ExpertMatrix> matrices() const;

 private:
  at::Tensor composed(const at::Tensor& x_RD, const std::vector<int64_t>& rows_L,
                      const InnerDropout& drop) const;

  Ffn ffn_;
  Recompute recompute_;
  at::Tensor in_LFD_, down_LDF_;  // (L, 2F, D): gate rows first; (L, F, D) without a gate
};

}  // namespace switchyard
