#pragma once

#include <string>

#include "metrics/step_metrics.h"
#include "train/session.h"

namespace switchyard {

/// Cross-entropy, perplexity and bits per byte of the model on a split, read in
/// order; every target token weighs the same, a shorter last sequence included.
/// Capacity is `moe.capacity.eval_factor`: none by default, so nothing is dropped.
///
///   max_sequences  0: the whole split
///
/// The same number on any layout, up to rounding. Collective over all groups of
/// the mesh; ranks without a sequence take part with none.
EvalMetrics evaluate(Session& session, const std::string& data_dir, const std::string& split,
                     int64_t sequence_length, int64_t max_sequences);

}  // namespace switchyard
