#pragma once

#include <cstdint>
#include <vector>

#include "train/train_step.h"

namespace switchyard {

/// Steps of tokens drawn evenly from the vocabulary: a small pool, taken round and round, so
/// that a benchmark needs no data. The draws are those of torch.randint with seed 1234, the
/// ones that scripts/bench/peers takes.
class RandomTokens {
 public:
  /// This rank's share. `session` outlives this.
  explicit RandomTokens(const Session& session);

  /// The micro-batches of step `step`, from 0. Local.
  std::vector<MicroBatch> step(int64_t step) const;

  /// How often each token is in the pool, over all ranks: (V) int64.
  at::Tensor counts_V() const;

 private:
  const Session& session_;
  std::vector<at::Tensor> pool_;  // each (sequences of all ranks, S + 1) int64
};

}  // namespace switchyard
