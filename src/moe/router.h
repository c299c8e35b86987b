#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "config/run_config.h"
#include "moe/routing.h"
#include "moe/token_context.h"
#include "optim/parameter_store.h"

namespace switchyard {

/// Where a router stands: what it must know of the model.
struct RouterPlace {
  int64_t layer = 0;  // of the decoder, from 0: keys the draws
  int64_t hidden_size = 0, vocab_size = 0;
  int64_t num_experts = 0, top_k = 0;
  double init_std = 0.02;
};

/// One weight that a router learns.
struct RouterWeight {
  std::string name;  // "gate.weight", after the layer's prefix; if shared, after "model.router."
  std::vector<int64_t> shape;
  Init init;
  bool shared = false;  // one for all MoE layers
};

/// State of a run by name.
using NamedState = std::vector<std::pair<std::string, at::Tensor>>;

/// The weights and the state that a router reads, in the order in which it named them.
struct RouterTensors {
  std::vector<at::Tensor> weights;  // leaves, compute dtype; used in float32
  std::vector<at::Tensor> state;    // float32 without gradient
};

/// What a router may learn from once a step is over: the same on every rank.
struct RouterStep {
  at::Tensor counts_E;  // (E) float64: assignments before capacity
  double tokens = 0;    // routed tokens
  double dropped = 0;   // share of the assignments that capacity dropped
  double loss = 0;      // cross-entropy per target token, nats
};

/// Decides where tokens go. A router knows nothing of ranks: it is a pure function
/// of hidden states, token ids, its weights, its state and counter-based draws, so
/// the same tokens give the same Routing on any layout. It keeps nothing itself.
class Router {
 public:
  virtual ~Router() = default;

  /// The weights that `route` reads, in this order.
  virtual std::vector<RouterWeight> weights() const = 0;

  /// The state that `route` reads, with the values that a run starts from.
  virtual NamedState initial_state() const { return {}; }

  /// x_TD (T, D) in the compute dtype; all arithmetic in float32. Ties go to the
  /// lower expert id.
  virtual Routing route(const at::Tensor& x_TD, const RouterTensors& tensors,
                        const TokenContext& context) const = 0;

  /// Moves the state on, once per optimizer step.
  virtual void update_state(std::vector<at::Tensor>& state, const RouterStep& step) const;

  /// Whether the state is made from how often each token occurs in the training data.
  virtual bool wants_token_counts() const { return false; }

  /// counts_V (V) int64. Called once, when a run starts from nothing.
  virtual void use_token_counts(const at::Tensor& counts_V, std::vector<at::Tensor>& state) const;
};

/// The router that `moe.router.type` names.
std::unique_ptr<Router> make_router(const RouterConfig& config, const RouterPlace& place);

/// The names that it knows, sorted.
std::vector<std::string> router_types();

/// Where the router of decoder layer `layer` stands.
RouterPlace router_place(const ModelConfig& model, const MoeConfig& moe, int64_t layer);

/// The weight of a linear router, gate.weight (E, D), as most of them start.
RouterWeight gate_weight(const RouterPlace& place);

/// z = W x (T, E) in float32; of float64 inputs in float64, for gradient checks.
at::Tensor gate_logits(const at::Tensor& x_TD, const at::Tensor& gate_ED);

/// What a router computes in: float32, but float64 stays.
at::Tensor to_router_dtype(const at::Tensor& x);

}  // namespace switchyard
