#pragma once

#include <optional>
#include <string>

#include "metrics/routing_summary.h"
#include "train/session.h"

namespace switchyard {

/// What `diagnose_routing` reads.
struct RoutingSample {
  std::string data_dir, split;
  int64_t sequence_length = 0;
  int64_t max_sequences = 0;      // 0: the whole split
  std::optional<int64_t> domain;  // of the text, for routers that choose by it
  int64_t sampled_tokens = 0;     // about so many go through every expert, spread over the split
};

/// How the model routes a split, and how its routers and experts compare, layer by layer:
/// Lo et al., "A Closer Look into Mixture-of-Experts in Large Language Models",
/// arXiv:2406.18219, beside the counters of routing. As in evaluation: order, capacity,
/// padding, no draws.
///
/// Loads and drops are of assignments before and by capacity; the entropy is that of
/// RouterRecord's probs_TE. For the correlation of scores and norms all experts are run on
/// a sample of the tokens, which depends on the split alone; scores are the router's
/// logits, or its probabilities where it has no logits, both of the same order. A token
/// whose scores or norms are all equal has no correlation and is left out.
///
/// The same on any layout, up to rounding. Throws as SplitBatches does. Collective over all
/// groups of the mesh.
RoutingSummary diagnose_routing(const Session& session, const RoutingSample& sample);

}  // namespace switchyard
