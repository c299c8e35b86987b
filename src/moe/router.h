#pragma once

#include <memory>

#include "config/run_config.h"
#include "moe/routing.h"
#include "moe/token_context.h"

namespace switchyard {

/// The weights and state that a router reads.
struct RouterWeights {
  at::Tensor gate_ED;  // (E, D) leaf, compute dtype; used in float32
  at::Tensor bias_E;   // (E) float32 without gradient: added for the choice only; undefined: none
};

/// Decides where tokens go. A router knows nothing of ranks and keeps no state:
/// the same tokens give the same Routing on any layout.
class Router {
 public:
  virtual ~Router() = default;

  /// x_TD (T, D) in the compute dtype; all arithmetic in float32. `layer` keys
  /// the draws. Ties go to the lower expert id.
  virtual Routing route(const at::Tensor& x_TD, const RouterWeights& weights,
                        const TokenContext& context) const = 0;
};

/// The router that `moe.router.type` names, for layer `layer` of the model.
std::unique_ptr<Router> make_router(const MoeConfig& moe, int64_t layer);

}  // namespace switchyard
