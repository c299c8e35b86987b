#pragma once

#include "moe/router.h"

namespace switchyard {

/// Hash layers, arXiv:2106.04426: the expert is a fixed hash of the token, with no weights
/// and no loss:
///
///   y = sum over parts p of expert_{h_p}(x)        h_p = gate.table[p][slot]
///
/// `hash.parts` 1 is the paper's section 3.1; more are MultiHash (section 3.3): the experts
/// are split into `parts` blocks of whole experts with a hash each, and every block gives
/// one. The paper cuts one feed-forward network into segments, which then add up: experts
/// are those segments here. So every chosen expert has weight 1, also with parts. `parts`
/// must be moe.top_k and divide moe.num_experts.
///
/// `hash.method` says what makes the slot (section 3.1.1 and 3.2):
///   random    the token's id
///   balanced  the token's id, with the table made from the counts of the training data:
///             the next most frequent id goes to the least loaded expert, then to the
///             one with fewer ids, then to the lower. One id is never split, so
///             balance ends where the most frequent one exceeds an even share. With parts
///             the later blocks take the ids in an order whose frequencies are jittered by
///             up to 2x, else all blocks would share one partition
///   previous  the id before in the sequence (slot 0: none)
///   bigram    that and the token's own, hashed to 16384 slots
///   position  the position in the sequence, modulo 16384
///
/// The table is state of the run (float32, exact for ids below 2^24) and in its checkpoints.
/// Entries are drawn by a fixed key and the layer, not by the run's seed: the table is part
/// of what the model is, as its shapes are, so runs of several seeds, or a
/// router that is made anew, hash alike. Layers differ, which the paper finds to be
/// neither better nor worse than one hash for all.
///
/// Not as in the released code: it draws with Python's generator, adds a layer norm and
/// a residual per expert, and its balanced table needs a dictionary with counts. The paper's
/// clustered and dispersed hashes are not built. Causal: no look at later tokens.
class HashRouter final : public Router {
 public:
  /// Throws ConfigError where `parts` does not fit.
  HashRouter(const RouterConfig& config, const RouterPlace& place);
  std::vector<RouterWeight> weights() const override { return {}; }
  /// gate.table (parts, slots): expert ids. `balanced` starts as `random` does.
  NamedState initial_state() const override;
  /// Reads token ids, positions and, where the method does, the tokens before.
  Routing route(const at::Tensor& x_TD, const RouterTensors& tensors,
                const TokenContext& context) const override;
  bool wants_token_counts() const override { return config_.method == "balanced"; }
  void use_token_counts(const at::Tensor& counts_V, std::vector<at::Tensor>& state) const override;

 private:
  int64_t num_slots() const;
  at::Tensor slots(const TokenContext& context) const;
  std::vector<int64_t> by_frequency(const at::Tensor& counts_V, int64_t part) const;

  HashConfig config_;
  RouterPlace place_;
};

}  // namespace switchyard
