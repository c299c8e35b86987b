#pragma once

#include "moe/router.h"

namespace switchyard {

/// MoCLE, arXiv:2312.12379 section 3.2: a sequence's cluster chooses one expert for all of
/// its tokens, beside a universal expert that every token has:
///
///   G = softmax(W_gate c / temperature)        c: the embedding of the sequence's cluster
///   y = G_max expert_argmax(x) + (1 - G_max) shared_expert(x)
///
/// c and W_gate are learned: gate.embedding.weight (clusters, embedding_size), which
/// starts as a standard normal, and gate.weight (E, embedding_size). The universal expert is the
/// layer's shared experts, scaled through Routing::shared_T, so there must be some.
///
/// Not as in the paper: its clusters are those of k-means over the instructions' sentence
/// embeddings and its experts low-rank updates of one linear layer (W x + ...); here the cluster
/// is the domain of the sequence (a source of data.path, at most sequence.clusters of
/// them) and experts are whole feed-forward networks. moe.top_k must be 1. Causal: given
/// the cluster, a token looks at no other.
class SequenceRouter final : public Router {
 public:
  /// Throws ConfigError when moe.top_k is not 1.
  SequenceRouter(const RouterConfig& config, const RouterPlace& place);
  std::vector<RouterWeight> weights() const override;
  /// Reads context.domains_T, which must be defined unless there are no tokens.
  Routing route(const at::Tensor& x_TD, const RouterTensors& tensors,
                const TokenContext& context) const override;

 private:
  SequenceConfig config_;
  RouterPlace place_;
};

}  // namespace switchyard
