#pragma once

#include <functional>
#include <optional>
#include <string>

#include "metrics/step_metrics.h"
#include "train/session.h"
#include "train/token_census.h"

namespace switchyard {

/// Cross-entropy, perplexity and bits per byte of the model on a split, read in
/// order; every target token weighs the same, a shorter last sequence included.
/// Capacity is `moe.capacity.eval_factor`, per sequence: none by default, so nothing
/// is dropped. `data.mask_documents` holds here too.
///
///   max_sequences  0: the whole split
///   domain         source of data.path that the text is of, for routers that choose by it
///   tokens         counts which tokens the experts took; null: nobody does
///   stop           asked between batches, on every rank with the same answer: gives
///                  up and returns nothing when it says so
///
/// Throws ConfigError when the data's vocabulary is larger than the model's
/// or the router needs a domain and has none. The same
/// number on any layout, up to rounding. Collective over all groups of
/// the mesh; ranks without a sequence take part with none.
std::optional<EvalMetrics> evaluate(Session& session, const std::string& data_dir,
                                    const std::string& split, int64_t sequence_length,
                                    int64_t max_sequences,
                                    const std::function<bool()>& stop = nullptr,
                                    std::optional<int64_t> domain = {},
                                    TokenCensus* tokens = nullptr);

}  // namespace switchyard
