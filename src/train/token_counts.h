#pragma once

#include <ATen/core/Tensor.h>

#include "data/training_data.h"
#include "distributed/communicator.h"
#include "train/session.h"

namespace switchyard {

/// How often each token occurs in the training data: (V) int64, V >= the data's vocabulary,
/// as TrainingData::blended_counts weighs the sources. Every rank reads its share; exact,
/// so the same on any layout. Collective.
at::Tensor token_counts(const TrainingData& data, int64_t vocab_size, Communicator& world);

/// Makes the routers' state from them, where some router wants that: once, when a run
/// starts from nothing. Collective.
void prepare_routers(Session& session, const TrainingData& data);

}  // namespace switchyard
