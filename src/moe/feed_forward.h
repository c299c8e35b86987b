#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "ops/activation.h"
#include "ops/recompute.h"
#include "optim/parameter_store.h"

namespace switchyard {

/// A dense feed-forward network, replicated on all ranks: the MLP of a dense
/// layer, or a shared expert.
///
/// Parameters: PREFIX.{gate_proj,up_proj}.weight (F, D), PREFIX.down_proj.weight (D, F)
class FeedForward {
 public:
  FeedForward(ParameterStore& store, const std::string& prefix, int64_t hidden_size,
              int64_t intermediate_size, Ffn ffn, double init_std,
              Recompute recompute = Recompute::kNone);

  /// x_TD (T, D) -> (T, D). With Recompute::kExperts x_TD is what stays until backward. Local.
  at::Tensor forward(const at::Tensor& x_TD) const;

 private:
  at::Tensor composed(const at::Tensor& x_TD) const;

  Ffn ffn_;
  Recompute recompute_;
  at::Tensor in_FD_, down_DF_;
};

}  // namespace switchyard
